package signing

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	"granary/internal/errs"
)

// Detached is the class of the scripts that write an armored signature beside the file: {"file": …, "signature": …}.
const Detached = "core:AsciiArmoredDetachedSigningService"

func detached() Class {
	return Class{
		Name: Detached,
		Outputs: func(answer []byte) (map[string]string, error) {
			return Named(answer, []string{"file", "signature"}, "key")
		},
		Probe: func(dir string) (string, map[string]string, error) {
			file := filepath.Join(dir, "probe")
			return file, nil, os.WriteFile(file, []byte("arbitrary data"), 0o600)
		},
		Verify: func(key *Key, s Signed) (err error) {
			if s.Outputs["file"] != s.File {
				return errs.E(errs.Invalid, "The signing service script has signed another file.")
			}
			signed, err := os.Open(s.File)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, signed.Close()) }()
			signature, err := os.Open(s.Outputs["signature"])
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, signature.Close()) }()
			return key.VerifyDetached(signed, io.LimitReader(signature, maxAnswer))
		},
	}
}

// Named reads an answer that is an object whose values are paths. It must have the needed names, may have others, and what it has
// besides is left out.
func Named(answer []byte, needed []string, others ...string) (map[string]string, error) {
	var all map[string]any
	if json.Unmarshal(answer, &all) != nil {
		return nil, errJSON
	}
	outputs := map[string]string{}
	for i, name := range append(needed, others...) {
		path, ok := all[name].(string)
		if ok && path != "" {
			outputs[name] = path
		} else if i < len(needed) {
			return nil, errs.Ef(errs.Invalid, "The signing service script did not name a '%s'.", name)
		}
	}
	return outputs, nil
}

var errJSON = errs.E(errs.Invalid, "The signing service script did not return valid JSON!")
