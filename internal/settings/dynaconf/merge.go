package dynaconf

import (
	"reflect"
	"slices"
	"strings"
)

// The keys, or items of a list, that say inside of a value that it is merged into the earlier one.
const (
	MergeKey       = "dynaconf_merge"
	mergeUniqueKey = "dynaconf_merge_unique"
)

// Set gives the value at path to the table, as the value says: replaced, merged or deleted. Parts of the path
// match keys in any case; those that match none are made. The table shares nothing with the value afterwards.
func Set(table map[string]any, path []string, v any) {
	key := FindKey(table, path[0])
	if len(path) > 1 {
		inner, ok := table[key].(map[string]any)
		if !ok {
			inner = map[string]any{}
			table[key] = inner
		}
		Set(inner, path[1:], v)
		return
	}
	if n, keep := change(table[key], v); keep {
		table[key] = n
	} else {
		delete(table, key)
	}
}

// FindKey returns the key of the table that is the same but for case, or the key itself.
func FindKey(table map[string]any, key string) string {
	if _, ok := table[key]; ok {
		return key
	}
	found := ""
	for k := range table {
		if strings.EqualFold(k, key) && (found == "" || k < found) {
			found = k
		}
	}
	if found == "" {
		return key
	}
	return found
}

// change returns what becomes of an old value when a source gives a new one; keep is false where it is deleted.
func change(old, v any) (_ any, keep bool) {
	switch v := v.(type) {
	case Op:
		switch v.Kind {
		case "delete":
			return nil, false
		case "insert":
			list, _ := old.([]any)
			i := v.Index
			if i < 0 {
				i += len(list)
			}
			return slices.Insert(slices.Clone(list), min(max(i, 0), len(list)), plain(v.Value)), true
		}
		return merge(old, v.Value, v.Kind == "merge_unique"), true
	case map[string]any:
		if m, unique, ok := merging(v); ok {
			return merge(old, m, unique), true
		}
	case []any:
		if i := slices.IndexFunc(v, isMergeItem); i >= 0 {
			unique := v[i] == mergeUniqueKey
			return merge(old, slices.DeleteFunc(slices.Clone(v), isMergeItem), unique), true
		}
	}
	return plain(v), true
}

func isMergeItem(v any) bool { return v == MergeKey || v == mergeUniqueKey }

// merging returns the table without its merge key, and whether that key asks for merging.
func merging(v map[string]any) (m map[string]any, unique, ok bool) {
	for _, key := range []string{MergeKey, mergeUniqueKey} {
		flag, found := v[key]
		if !found {
			continue
		}
		unique = key == mergeUniqueKey
		if table, isTable := flag.(map[string]any); isTable { // it is the table to merge
			return table, unique, true
		}
		ok = flag == true || flag == int64(1)
		m = map[string]any{}
		for k, x := range v {
			if k != key {
				m[k] = x
			}
		}
		return m, unique, ok
	}
	return v, false, false
}

// merge appends a list to the old one, or puts a table into the old one, deeply. Values of another kind replace it.
func merge(old, v any, unique bool) any {
	switch v := v.(type) {
	case []any:
		list, _ := old.([]any)
		list = slices.Clone(list)
		for _, x := range v {
			x = plain(x)
			if unique && slices.ContainsFunc(list, func(y any) bool { return reflect.DeepEqual(x, y) }) {
				continue
			}
			list = append(list, x)
		}
		return list
	case map[string]any:
		table, ok := old.(map[string]any)
		if !ok {
			return plain(v)
		}
		for k, x := range v {
			k = FindKey(table, k)
			if m, isTable := x.(map[string]any); isTable {
				if _, hadTable := table[k].(map[string]any); hadTable {
					m, _, _ = merging(m)
					table[k] = merge(table[k], m, unique)
					continue
				}
			}
			if n, keep := change(table[k], x); keep {
				table[k] = n
			} else {
				delete(table, k)
			}
		}
		return table
	}
	return plain(v)
}

// plain returns the value without what tells how to merge it, as there is nothing to merge it into.
func plain(v any) any {
	switch v := v.(type) {
	case Op:
		n, _ := change(nil, v)
		return n
	case map[string]any:
		m, _, _ := merging(v)
		out := make(map[string]any, len(m))
		for k, x := range m {
			if n, keep := change(nil, x); keep {
				out[k] = n
			}
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, x := range v {
			if isMergeItem(x) {
				continue
			}
			if n, keep := change(nil, x); keep {
				out = append(out, n)
			}
		}
		return out
	}
	return v
}
