package config

// lineOf finds the line of a field path below the object's node.
func (s *Source) lineOf(string) int { return s.Line }
