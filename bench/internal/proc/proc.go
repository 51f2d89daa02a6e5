// Package proc runs a benchmark as two processes, each on a core of its own,
// and reads what they use.
package proc

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// pinned marks a process that runs on its core already.
const pinned = "MESHFRAME_BENCH_PINNED"

// Pin re-executes the program on the given core, so that the Go runtime sees
// one CPU. It returns at once when that was done, or when taskset is missing:
// then it says so, for the numbers mean less.
func Pin(core int) {
	if os.Getenv(pinned) != "" {
		return
	}
	taskset, err := exec.LookPath("taskset")
	if err != nil {
		fmt.Fprintln(os.Stderr, "taskset is not installed: client and server share their cores, and the ratios are less exact")
		return
	}
	exe, err := os.Executable()
	if err != nil {
		return
	}
	args := append([]string{"taskset", "-c", strconv.Itoa(core), exe}, os.Args[1:]...)
	err = syscall.Exec(taskset, args, append(os.Environ(), pinned+"=1"))
	fmt.Fprintln(os.Stderr, "taskset:", err)
}

// Child returns a command that runs this program again, on the given core.
func Child(core int, args ...string) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, args...)
	if taskset, err := exec.LookPath("taskset"); err == nil {
		cmd = exec.Command(taskset, append([]string{"-c", strconv.Itoa(core), exe}, args...)...)
	}
	cmd.Env = append(os.Environ(), pinned+"=1", "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	return cmd, nil
}

// CPU is the processor time this process has used, in user and system mode.
func CPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Quantile is the q-quantile of v, which it sorts.
func Quantile[T ~int64 | ~float64](v []T, q float64) T {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[min(len(v)-1, int(float64(len(v))*q))]
}

// Median is the median of v.
func Median(v []float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	switch n := len(s); {
	case n == 0:
		return 0
	case n%2 == 0:
		return (s[n/2-1] + s[n/2]) / 2
	default:
		return s[n/2]
	}
}
