package decode

import (
	"errors"
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

// headerMutations is what route configurations, virtual hosts, routes and
// weighted clusters have in common.
type headerMutations interface {
	GetRequestHeadersToAdd() []*corev3.HeaderValueOption
	GetRequestHeadersToRemove() []string
	GetResponseHeadersToAdd() []*corev3.HeaderValueOption
	GetResponseHeadersToRemove() []string
}

var (
	headerEditFields = newFields("request_headers_to_add", "request_headers_to_remove",
		"response_headers_to_add", "response_headers_to_remove")
	headerValueOptionFields = newFields("header", "append", "append_action", "keep_empty_value")
	headerValueFields       = newFields("key", "value", "raw_value")
)

// headerEdits reads the changes of request and response headers; nil is none.
func (s *scope) headerEdits(m headerMutations) (request, response *snapshot.HeaderEdits, err error) {
	request, err = s.editList("request_headers_to_", m.GetRequestHeadersToAdd(), m.GetRequestHeadersToRemove())
	if err == nil {
		response, err = s.editList("response_headers_to_", m.GetResponseHeadersToAdd(), m.GetResponseHeadersToRemove())
	}
	return request, response, err
}

func (s *scope) editList(field string, add []*corev3.HeaderValueOption, remove []string) (*snapshot.HeaderEdits, error) {
	out := &snapshot.HeaderEdits{}
	for i, name := range remove {
		name, err := s.item(field+"remove", i, "").editable(name)
		if err != nil {
			return nil, err
		}
		out.Remove = append(out.Remove, name)
	}
	for i, m := range add {
		at := s.item(field+"add", i, m.GetHeader().GetKey())
		edit, err := at.headerEdit(m)
		if err != nil {
			return nil, err
		}
		if edit.Value == "" && !m.GetKeepEmptyValue() {
			at.notef("has an empty value and not keep_empty_value, so it has no effect")
			continue
		}
		out.Edits = append(out.Edits, edit)
	}
	if len(out.Remove)+len(out.Edits) == 0 {
		return nil, nil
	}
	return out, nil
}

func (s *scope) headerEdit(m *corev3.HeaderValueOption) (out snapshot.HeaderEdit, err error) {
	s.noteRest(m, headerValueOptionFields)
	at := s.at("header")
	at.noteRest(m.GetHeader(), headerValueFields)
	if out.Name, err = at.at("key").editable(m.GetHeader().GetKey()); err != nil {
		return out, err
	}
	if out.Action, err = s.headerAction(m); err != nil {
		return out, err
	}
	value, raw := m.GetHeader().GetValue(), m.GetHeader().GetRawValue()
	field := at.at("value")
	if len(raw) > 0 {
		if value != "" {
			return out, at.errorf("only one of value and raw_value may be set")
		}
		field, value = at.at("raw_value"), string(raw)
	}
	if out.Value, err = plainText(value); err != nil {
		return out, field.wrap(err)
	}
	return out, field.headerValue(out.Value)
}

// headerAction reads append_action, or append, which it replaces.
func (s *scope) headerAction(m *corev3.HeaderValueOption) (snapshot.HeaderAction, error) {
	if a := m.GetAppend(); a != nil {
		if m.GetAppendAction() != corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD {
			return 0, s.errorf("only one of append and append_action may be set")
		}
		if !a.GetValue() {
			return snapshot.OverwriteOrAdd, nil
		}
	}
	switch m.GetAppendAction() {
	case corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
		return snapshot.AppendOrAdd, nil
	case corev3.HeaderValueOption_ADD_IF_ABSENT:
		return snapshot.AddIfAbsent, nil
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
		return snapshot.OverwriteOrAdd, nil
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:
		return snapshot.OverwriteIfExists, nil
	default:
		return 0, s.at("append_action").errorf("%d is not known", m.GetAppendAction())
	}
}

// editable returns the name of a header in lower case. Pseudo headers and the
// host must not be changed this way, as in Envoy: rewrites do that.
func (s *scope) editable(name string) (string, error) {
	name = strings.ToLower(name)
	if name == "host" || strings.HasPrefix(name, ":") {
		return "", s.errorf("%q must not be changed", name)
	}
	return name, s.headerName(name)
}

// headerName refuses what is not a name of a header (RFC 9110, token).
func (s *scope) headerName(name string) error {
	bad := func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	}
	if name == "" || strings.ContainsFunc(name, bad) {
		return s.errorf("%q is not the name of a header", name)
	}
	return nil
}

// headerValue refuses what would end the header.
func (s *scope) headerValue(value string) error {
	if strings.ContainsAny(value, "\x00\r\n") {
		return s.errorf("%q is not the value of a header", value)
	}
	return nil
}

var errPercent = errors.New("a percent sign must be written %%")

// plainText reads a format string of Envoy's that has no command in it.
func plainText(format string) (string, error) {
	text := strings.ReplaceAll(format, "%%", "")
	start := strings.IndexByte(text, '%')
	if start < 0 {
		return strings.ReplaceAll(format, "%%", "%"), nil
	}
	if length := strings.IndexByte(text[start+1:], '%'); length > 0 {
		return "", fmt.Errorf("%s is not supported: only plain text is, and %%%% for a percent sign", text[start:start+length+2])
	}
	return "", errPercent
}
