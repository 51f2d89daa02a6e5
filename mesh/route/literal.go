package route

import (
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// literalPrefix returns text with which everything begins that the expression
// matches; empty if it does not start at the beginning of the text, or with
// anything but fixed characters.
func literalPrefix(re *regexp.Regexp) string {
	tree, err := syntax.Parse(re.String(), syntax.Perl)
	if err != nil || !anchored(tree) {
		return ""
	}
	text, _ := fixedText(tree)
	// The regexp engine reads invalid UTF-8 as this character.
	text, _, _ = strings.Cut(text, string(utf8.RuneError))
	return text
}

// anchored reports whether the expression can match only at the beginning.
func anchored(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpBeginText:
		return true
	case syntax.OpConcat, syntax.OpCapture:
		return len(re.Sub) > 0 && anchored(re.Sub[0])
	default:
		return false
	}
}

// fixedText returns the characters that the expression begins with, and whether
// they are all of it.
func fixedText(re *syntax.Regexp) (text string, all bool) {
	switch re.Op {
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 {
			return "", false
		}
		return string(re.Rune), true
	case syntax.OpBeginText, syntax.OpEndText, syntax.OpEmptyMatch:
		return "", true
	case syntax.OpCapture:
		return fixedText(re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			part, whole := fixedText(sub)
			text += part
			if !whole {
				return text, false
			}
		}
		return text, true
	default:
		return "", false
	}
}
