package files

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrInUse says that another process, or another part of this one, has the lock of a directory.
var ErrInUse = errors.New("it is in use by another process")

// lockFile is the name of the file, in the directory, that the lock is on.
const lockFile = "lock"

// Lock is the right to write into a directory. It ends with the process, however that ends.
type Lock struct{ file *os.File }

// NewLock makes a directory, if need be, and takes its lock. It does not wait: the error is ErrInUse when somebody else
// has it. Where the system knows no such locks (see flock) nobody is kept out.
func NewLock(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%s cannot be made: %s", dir, reason(err))
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be written to: %s", dir, reason(err))
	}
	if err := flock(f); err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return &Lock{file: f}, nil
}

// Release gives the lock to whoever comes next.
func (l *Lock) Release() error { return l.file.Close() }
