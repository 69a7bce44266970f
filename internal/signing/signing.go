// Package signing has files signed by scripts of the administrator's. A service is a script with a public key; its class says what
// the script prints and how that is verified. Start with [Services] and [Service.Sign].
package signing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"granary/internal/db"
	"granary/internal/errs"
	"granary/internal/pulp"
	"granary/internal/rest"
)

// A Class is a kind of service. Plugins add theirs.
type Class struct {
	Name string // as administrators write it: "core:AsciiArmoredDetachedSigningService"
	// Outputs reads what the script printed, which is JSON, and names the files in it.
	Outputs func(answer []byte) (map[string]string, error)
	// Probe writes a file for a new service to sign into a folder of its own, and says what more its script needs in its environment.
	Probe func(dir string) (file string, env map[string]string, err error)
	// Verify says whether what the script made of the file is right.
	Verify func(key *Key, s Signed) error
}

// Signed is what a script made of a file. It may change the file.
type Signed struct {
	File    string
	Outputs map[string]string // paths by name: regular files in the file's folder or below
}

// Services are the services of one server.
type Services struct {
	db      *db.DB
	now     pulp.Clock
	temp    string
	limit   time.Duration
	types   rest.Typed[Service]
	classes map[string]Class
}

// A Config is what services need.
type Config struct {
	DB   *db.DB
	Now  pulp.Clock
	Temp string        // where probes are signed
	Time time.Duration // that a script may take; 0 means ten minutes
}

// New returns the services with the core's class. Classes are added before anything is signed.
func New(c Config) *Services {
	s := &Services{db: c.DB, now: c.Now, temp: c.Temp, limit: c.Time, classes: map[string]Class{}}
	if s.limit == 0 {
		s.limit = 10 * time.Minute
	}
	s.types = rest.Define(rest.Resource[Service]{
		App: "core", Model: "SigningService", Path: "signing-services", Table: "core_signingservice", Global: true,
		Filters:  rest.Text("name", "m.name"),
		Ordering: []string{"name", "pk", "pubkey_fingerprint", "public_key", "pulp_created", "pulp_id", "pulp_last_updated", "script"},
		Expand: func(_ context.Context, _ db.Querier, list []*Service) error {
			for _, v := range list {
				v.services = s
			}
			return nil
		},
	})
	s.Add(detached())
	return s
}

// Add adds classes. It panics where there are two of one name.
func (s *Services) Add(classes ...Class) {
	for _, c := range classes {
		if _, ok := s.classes[c.Name]; ok {
			panic("two classes called " + c.Name)
		}
		s.classes[c.Name] = c
	}
}

// Type returns the services as the API shows them.
func (s *Services) Type() *rest.Type { return s.types.Type }

// A Service signs files.
type Service struct {
	rest.Global
	Name        string `api:"name,req"`
	PublicKey   string `api:"public_key,req"`
	Fingerprint string `api:"pubkey_fingerprint,req" db:"pubkey_fingerprint"`
	Script      string `api:"script,req"`
	Class       string `api:"-" db:"class"`

	services *Services
}

// Get loads a service.
func (s *Services) Get(ctx context.Context, q db.Querier, id pulp.ID) (*Service, error) {
	v, err := s.types.Get(ctx, q, id)
	if err == nil {
		v.services = s
	}
	return v, err
}

// List loads all services.
func (s *Services) List(ctx context.Context) ([]*Service, error) {
	return s.types.Select(ctx, s.db, "1 = 1 ORDER BY m.name")
}

// Sign has the service's script sign a file, which lies in a folder that belongs to the caller, and verifies what came. The script
// runs in that folder and gets env besides the server's environment, of which it does not get what is Pulp's or the database's.
func (v *Service) Sign(ctx context.Context, file string, env map[string]string) (_ Signed, err error) {
	defer errs.Wrap(&err, "sign with %q", v.Name)
	class, ok := v.services.classes[v.Class]
	if !ok {
		return Signed{}, errs.Ef(errs.Invalid, "Signing services of the class '%s' are none that this server knows.", v.Class)
	}
	key, err := ReadKey(v.PublicKey)
	if err != nil {
		return Signed{}, err
	}
	return v.services.sign(ctx, class, v, key, file, env)
}

func (s *Services) sign(ctx context.Context, class Class, v *Service, key *Key, file string, env map[string]string) (Signed, error) {
	dir, err := filepath.EvalSymlinks(filepath.Dir(file))
	if err != nil {
		return Signed{}, fmt.Errorf("the file's folder: %w", err)
	}
	file = filepath.Join(dir, filepath.Base(file))
	all := map[string]string{"PULP_SIGNING_KEY_FINGERPRINT": v.Fingerprint, "CORRELATION_ID": pulp.CallOf(ctx).CID}
	for name, value := range env {
		all[name] = value
	}
	answer, err := run(ctx, s.limit, v.Script, dir, file, all)
	if err != nil {
		return Signed{}, err
	}
	outputs, err := class.Outputs(answer)
	if err != nil {
		return Signed{}, err
	}
	signed := Signed{File: file, Outputs: map[string]string{}}
	for name, path := range outputs {
		if signed.Outputs[name], err = within(dir, path); err != nil {
			return Signed{}, err
		}
	}
	if err := class.Verify(key, signed); err != nil {
		return Signed{}, err
	}
	return signed, nil
}

// within returns a path that a script printed: it must be one of a regular file in the folder or below.
func within(dir, path string) (string, error) {
	strange := errs.Ef(errs.Invalid, "The signing service script named '%s', which is no file that it may have made.", path)
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", strange
	}
	info, err := os.Lstat(real)
	if rel, rerr := filepath.Rel(dir, real); err != nil || rerr != nil || !filepath.IsLocal(rel) || !info.Mode().IsRegular() {
		return "", strange
	}
	return real, nil
}

// A Registration is a service to be.
type Registration struct {
	Name, Script, KeyID, Class string
	Home, Keyring              string // of gpg; empty for its own
}

// Register makes a service, once its script has signed a file as its class wants it.
func (s *Services) Register(ctx context.Context, r Registration) (_ *Service, err error) {
	class, err := s.class(r.Class)
	if err != nil {
		return nil, err
	}
	script, err := filepath.EvalSymlinks(r.Script)
	if err == nil {
		script, err = filepath.Abs(script)
	}
	if err != nil {
		return nil, errs.Ef(errs.Invalid, "[Errno 2] No such file or directory: '%s'", r.Script)
	}
	v := &Service{Name: r.Name, Script: script, Class: class.Name, services: s}
	if v.Fingerprint, v.PublicKey, err = exportKey(ctx, r); err != nil {
		return nil, err
	}
	key, err := ReadKey(v.PublicKey)
	if err != nil {
		return nil, err
	}
	if taken, err := db.Exists(ctx, s.db, "SELECT 1 FROM core_signingservice WHERE name = ?", v.Name); err != nil || taken {
		return nil, errors.Join(err, errs.Ef(errs.Invalid, "There is a signing service '%s' already.", v.Name))
	}
	dir, err := os.MkdirTemp(s.temp, "signing-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file, env, err := class.Probe(dir)
	if err != nil {
		return nil, err
	}
	if _, err := s.sign(ctx, class, v, key, file, env); err != nil {
		return nil, err
	}
	err = s.db.Update(ctx, func(tx *db.Tx) error {
		v.Created = s.now.Now()
		v.Updated = v.Created
		return s.types.Insert(ctx, tx, v)
	})
	return v, err
}

// Remove deletes a service that nothing uses.
func (s *Services) Remove(ctx context.Context, name, className string) error {
	class, err := s.class(className)
	if err != nil {
		return err
	}
	var n int64
	err = s.db.Update(ctx, func(tx *db.Tx) error {
		n, err = tx.Exec(ctx, "DELETE FROM core_signingservice WHERE name = ? AND class = ?", name, class.Name)
		return err
	})
	switch {
	case db.IsForeignKey(err):
		return errs.Ef(errs.Conflict, "Signing service '%s' of class '%s' could not be removed because it's still in use.", name, class.Name)
	case err == nil && n == 0:
		return errs.Ef(errs.NotFound, "Signing service '%s' of class '%s' does not exists.", name, class.Name)
	}
	return err
}

// class finds a class by its name.
func (s *Services) class(name string) (Class, error) {
	if c, ok := s.classes[name]; ok {
		return c, nil
	}
	app, model, ok := strings.Cut(name, ":")
	if !ok {
		return Class{}, errs.E(errs.Invalid, "The signing service class was not provided in a proper format.")
	}
	for n := range s.classes {
		if strings.HasPrefix(n, app+":") {
			return Class{}, errs.Ef(errs.Invalid, "App '%s' doesn't have a '%s' model.", app, model)
		}
	}
	return Class{}, errs.Ef(errs.Invalid, "No installed app with label '%s'.", app)
}

// A Key is a service's public key.
type Key struct{ entities openpgp.EntityList }

// ReadKey reads an armored public key.
func ReadKey(text string) (*Key, error) {
	list, err := openpgp.ReadArmoredKeyRing(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return &Key{list}, nil
}

// errSignature says that a signature is not by the key, or not of the file.
var errSignature = errs.E(errs.Invalid, "The signature is not valid.")

// VerifyDetached says whether an armored signature is the key's, and of what is read.
func (k *Key) VerifyDetached(signed, signature io.Reader) error {
	if _, err := openpgp.CheckArmoredDetachedSignature(k.entities, signed, signature, nil); err != nil {
		return &errs.Error{Kind: errs.Invalid, Detail: errSignature.Error(), Err: err}
	}
	return nil
}
