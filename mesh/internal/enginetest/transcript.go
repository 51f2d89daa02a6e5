package enginetest

import (
	"fmt"
	"strings"
)

// Play runs a transcript and returns it with the output that the engine gives
// now. A line that cannot be run is answered with the reason.
func Play(transcript string) string {
	var b strings.Builder
	s := newScript()
	for line := range strings.Lines(transcript) {
		line = strings.TrimRight(line, " \n")
		if strings.HasPrefix(line, "=") {
			continue
		}
		fmt.Fprintln(&b, line)
		command := strings.TrimSpace(line)
		if command == "" || strings.HasPrefix(command, "#") {
			continue
		}
		out, err := s.run(command)
		if err != nil {
			out = append(out, "cannot run: "+err.Error())
		}
		for _, text := range out {
			fmt.Fprintln(&b, "= "+text)
		}
	}
	return b.String()
}
