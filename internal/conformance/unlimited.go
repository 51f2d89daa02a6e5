package conformance

import (
	"encoding/binary"
	"io"
	"net"
)

// unlimited is the client's end of an HTTP/2 connection on which it does not hear
// how many streams the server takes at once, so that the server refuses some.
type unlimited struct {
	net.Conn

	first []byte // what is left of the first frame; nil before it was read
}

// Of HTTP/2.
const (
	frameHeader          = 9
	settingsFrame        = 4 // its type
	maxConcurrentStreams = 3 // a setting
)

// Read implements net.Conn.
func (c *unlimited) Read(p []byte) (int, error) {
	if c.first == nil {
		if err := c.readFirst(); err != nil {
			return 0, err
		}
	}
	if len(c.first) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.first)
	c.first = c.first[n:]
	return n, nil
}

// readFirst reads the server's first frame, which has its settings.
func (c *unlimited) readFirst() error {
	head := make([]byte, frameHeader)
	if _, err := io.ReadFull(c.Conn, head); err != nil {
		return err
	}
	length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	frame := make([]byte, frameHeader+length)
	copy(frame, head)
	if _, err := io.ReadFull(c.Conn, frame[frameHeader:]); err != nil {
		return err
	}
	const size = 6 // of a setting: two bytes of identifier, four of value
	for s := frame[frameHeader:]; frame[3] == settingsFrame && len(s) >= size; s = s[size:] {
		if binary.BigEndian.Uint16(s) == maxConcurrentStreams {
			binary.BigEndian.PutUint32(s[2:], 1<<31-1)
		}
	}
	c.first = frame
	return nil
}
