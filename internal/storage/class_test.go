package storage_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"granary/internal/storage"
)

// A word with its answers by the reference, which knows all classes and has the first one alone.
func TestParse(t *testing.T) {
	const s3, azure = `"access_key":"a","bucket_name":"b","secret_key":"s"`, `"account_name":"a","account_key":"k","azure_container":"c"`
	for _, tc := range []struct {
		class       storage.Class
		given, want string // what is reported
	}{
		{storage.FileSystem, `{"location":""}`, ``},
		{storage.FileSystem, `"{\"location\": \"\"}"`, ``},
		{storage.FileSystem, `{}`, `{"location":["This field is required."]}`},
		{storage.FileSystem, `{"location":"","hidden_fields":[]}`, `{"hidden_fields":"Unexpected field"}`},
		{storage.FileSystem, `{"LOCATION":"/x"}`, `{"LOCATION":"Unexpected field"}`},
		{storage.FileSystem, `{"zz":1,"file_permissions_mode":"rw"}`, `{"zz":"Unexpected field"}`},
		{storage.FileSystem, `{"location":true}`, `{"location":["Not a valid string."]}`},
		{storage.FileSystem, `{"location":null}`, `{"location":["This field may not be null."]}`},
		{storage.FileSystem, `{"location":"","file_permissions_mode":null,"base_url":null}`, `{"base_url":["This field may not be null."],"file_permissions_mode":["This field may not be null."]}`},
		{storage.FileSystem, `{"location":"","file_permissions_mode":"rw","directory_permissions_mode":1.5}`, `{"file_permissions_mode":["A valid integer is required."],"directory_permissions_mode":["A valid integer is required."]}`},
		{storage.FileSystem, `{"MEDIA_ROOT":[],"FILE_UPLOAD_PERMISSIONS":"","FILE_UPLOAD_DIRECTORY_PERMISSIONS":""}`, `{"location":["Not a valid string."],"file_permissions_mode":["A valid integer is required."],"directory_permissions_mode":["A valid integer is required."]}`},
		{storage.FileSystem, `[1]`, `["Storage settings should be a JSON object."]`},
		{storage.FileSystem, `5`, `["Storage settings should be a JSON object."]`},
		{storage.FileSystem, `"{"`, `["Improper JSON string passed in"]`},
		// ours: what clients send must not become programs that run as somebody else
		{storage.FileSystem, `{"location":"","file_permissions_mode":2541}`, `{"file_permissions_mode":["Ensure this value is less than or equal to 511."]}`},
		{storage.FileSystem, `{"location":"","file_permissions_mode":-1}`, `{"file_permissions_mode":["Ensure this value is greater than or equal to 0."]}`},

		{storage.S3, `{}`, `{"access_key":["This field is required."],"bucket_name":["This field is required."]}`},
		{storage.S3, `{"access_key":"a","bucket_name":"b"}`, `{"non_field_errors":["One of 'secret_key' or 'security_token' must be set."]}`},
		{storage.S3, `{"access_key":"a","bucket_name":"b","secret_key":null}`, `{"non_field_errors":["One of 'secret_key' or 'security_token' must be set."]}`},
		{storage.S3, `{"access_key":"a","bucket_name":"b","AWS_SESSION_TOKEN":"t"}`, ``},
		{storage.S3, `{"foo":1,"bucket_name":5,"querystring_expire":"x"}`, `{"foo":"Unexpected field"}`},
		{storage.S3, `{` + s3 + `,"cloudfront_signer":null}`, `{"cloudfront_signer":"Unexpected field"}`},
		{storage.S3, `{` + s3 + `,"session_profile":[],"client_config":5,"addressing_style":"zz","verify":""}`, ``},
		{storage.S3, `{` + s3 + `,"region_name":"","location":null,"querystring_auth":"maybe","use_ssl":5,"max_memory_size":"x"}`, `{"region_name":["This field may not be blank."],"location":["This field may not be null."],"querystring_auth":["Must be a valid boolean."],"use_ssl":["Must be a valid boolean."],"max_memory_size":["A valid integer is required."]}`},
		{storage.S3, `{` + s3 + `,"object_parameters":[],"gzip_content_types":{},"proxies":5,"transfer_config":[]}`, `{"object_parameters":["Expected a dictionary of items but got type \"list\"."],"gzip_content_types":["Expected a list of items but got type \"dict\"."],"proxies":["Expected a dictionary of items but got type \"int\"."],"transfer_config":{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}}`},
		{storage.S3, `{` + s3 + `,"transfer_config":{"max_concurrency":"x","use_threads":5,"preferred_transfer_client":"q","a":1}}`, `{"transfer_config":{"max_concurrency":["A valid integer is required."],"use_threads":["Must be a valid boolean."],"preferred_transfer_client":["\"q\" is not a valid choice."]}}`},
		{storage.S3, `{"AWS_S3_ACCESS_KEY_ID":"a","AWS_SECRET_ACCESS_KEY":"s","aws_storage_bucket_name":"b","AWS_DEFAULT_ACL":null,"AWS_S3_SIGNATURE_VERSION":"s3v4","AWS_S3_ADDRESSING_STYLE":"path","AWS_S3_REGION_NAME":"eu-central-1"}`, ``},

		{storage.Azure, `{}`, `{"account_name":["This field is required."],"account_key":["This field is required."],"azure_container":["This field is required."]}`},
		{storage.Azure, `{` + azure + `}`, ``},
		{storage.Azure, `{"AZURE_ACCOUNT_NAME":"a","AZURE_CONTAINER":"c","AZURE_ACCOUNT_KEY":"k","AZURE_URL_EXPIRATION_SECS":60,"AZURE_OVERWRITE_FILES":true,"AZURE_LOCATION":"azure/"}`, ``},
		{storage.Azure, `{` + azure + `,"AZURE_EMULATED_MODE":true}`, `{"AZURE_EMULATED_MODE":"Unexpected field"}`},
		{storage.Azure, `{` + azure + `,"sas_token":null,"timeout":null,"azure_ssl":null,"object_parameters":null}`, `{"timeout":["This field may not be null."],"azure_ssl":["This field may not be null."],"object_parameters":["This field may not be null."]}`},
	} {
		var given any
		if err := json.Unmarshal([]byte(tc.given), &given); err != nil {
			t.Fatal(tc.given, err)
		}
		settings, wrong := tc.class.Parse(given, nil)
		got := ""
		if wrong != nil {
			b, err := json.Marshal(wrong)
			if err != nil {
				t.Fatal(err)
			}
			got = string(b)
		}
		if !sameJSON(got, tc.want) || (wrong == nil) != (settings != nil) {
			t.Errorf("%s of %s: %s\nwant %s", tc.given, tc.class, got, tc.want)
		}
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	return a == b || json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && cmp.Equal(x, y)
}

func TestSettingsOverOthers(t *testing.T) {
	before, wrong := storage.S3.Parse(map[string]any{"access_key": "a", "bucket_name": "b", "secret_key": "hush", "location": "x"}, nil)
	if wrong != nil {
		t.Fatal(wrong)
	}
	after, wrong := storage.S3.Parse(map[string]any{"AWS_LOCATION": " y ", "querystring_expire": "60", "use_ssl": "no"}, before)
	if wrong != nil {
		t.Fatal(wrong)
	}
	if after["secret_key"] != "hush" || after["location"] != "y" || after["querystring_expire"] != 60.0 || after["use_ssl"] != false || after["url_protocol"] != "https:" {
		t.Errorf("%v", after)
	}
	shown := string(storage.S3.Append(nil, after))
	if strings.Contains(shown, "hush") || !strings.Contains(shown, `{"name":"secret_key","is_set":true},{"name":"security_token","is_set":false}`) || !json.Valid([]byte(shown)) {
		t.Errorf("shown: %s", shown)
	}
	if shown := string(storage.FileSystem.Append(nil, storage.Settings{"location": "/x", "base_url": "", "file_permissions_mode": 420.0})); shown !=
		`{"hidden_fields":[],"location":"/x","base_url":"","file_permissions_mode":420,"directory_permissions_mode":null}` {
		t.Errorf("shown: %s", shown)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{"location":""}`, `"{}"`, `{"access_key":"a","transfer_config":{"max_concurrency":1e300}}`, `{"verify":0,"proxies":{"a":[]}}`, `[]`, `"\"5\""`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var given any
		if json.Unmarshal([]byte(text), &given) != nil {
			return
		}
		for _, class := range []storage.Class{storage.FileSystem, storage.S3, storage.Azure} {
			settings, wrong := class.Parse(given, nil)
			if wrong != nil {
				if _, err := json.Marshal(wrong); err != nil {
					t.Fatal(err)
				}
				continue
			}
			again, wrong := class.Parse(map[string]any(settings), nil) // what is shown can be given back
			if wrong != nil && class == storage.FileSystem || wrong == nil && !cmp.Equal(settings, again) {
				t.Errorf("%v becomes %v, %v", settings, again, wrong)
			}
			if shown := class.Append(nil, settings); !json.Valid(shown) {
				t.Errorf("%s", shown)
			}
		}
	})
}
