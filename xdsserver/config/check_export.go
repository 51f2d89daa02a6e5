package config

import (
	"fmt"
	"slices"
	"strings"
)

// checkExportTo checks the list of namespaces that an object is visible in. none allows "~", nobody.
func checkExportTo(r *reader, exportTo []string, none bool) {
	for i, e := range exportTo {
		if bad := badExport(e, i, exportTo, r.meta.Namespace, none); bad != "" {
			r.errorf(element("spec.exportTo", i), "%s", bad)
		}
	}
}

func badExport(e string, i int, all []string, namespace string, none bool) string {
	switch {
	case slices.Contains(all[:i], e):
		return fmt.Sprintf("%q is written twice", shorten(e))
	case e == "~" && !none:
		return "~ (nobody) is for services only"
	case (e == "~" || e == "*") && len(all) > 1:
		return fmt.Sprintf("%q cannot be combined with anything else", e)
	case e == namespace && slices.Contains(all[:i], "."), e == "." && slices.Contains(all[:i], namespace):
		return fmt.Sprintf(`"." and %q are the same`, namespace)
	case e != "." && e != "*" && e != "~" && !isLabel(e):
		return fmt.Sprintf(`want ".", "*" or a namespace, have %q`, shorten(e))
	}
	return ""
}

// visibility turns exportTo into what it means for an object of a namespace.
func visibility(exportTo []string, namespace string) Visibility {
	if len(exportTo) == 0 || slices.Contains(exportTo, "*") {
		return Visibility{}
	}
	v := Visibility{restricted: true}
	for _, e := range exportTo {
		switch e {
		case ".":
			v.namespaces = append(v.namespaces, namespace)
		case "~":
		default:
			v.namespaces = append(v.namespaces, e)
		}
	}
	return v
}

// exportAnnotation is Istio's exportTo for Kubernetes services.
const exportAnnotation = "networking.istio.io/exportTo"

// exportList reads the annotation: namespaces, separated by commas.
func exportList(annotations map[string]string) []string {
	var out []string
	for e := range strings.SplitSeq(annotations[exportAnnotation], ",") {
		if e = strings.TrimSpace(e); e != "" {
			out = append(out, e)
		}
	}
	return out
}

func checkExportAnnotation(r *reader) {
	all := exportList(r.meta.Annotations)
	for i, e := range all {
		if bad := badExport(e, i, all, r.meta.Namespace, true); bad != "" {
			r.errorf(element("metadata.annotations", exportAnnotation), "%s", bad)
		}
	}
}
