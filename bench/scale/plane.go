package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// plane is the control plane, a process that can be killed and started again.
type plane struct {
	binary, dir    string
	address, admin string
	cmd            *exec.Cmd // nil: none is running
}

func newPlane(binary, dir string) (*plane, error) {
	p := &plane{binary: binary, dir: dir}
	for _, a := range []*string{&p.address, &p.admin} {
		lis, err := net.Listen("tcp", "127.0.0.1:0") // free, and so it most probably stays
		if err != nil {
			return nil, err
		}
		*a = lis.Addr().String()
		if err := lis.Close(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// start returns when the configuration is served.
func (p *plane) start() error {
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(p.binary, "--config", filepath.Join(p.dir, "config"), "--listen", p.address, "--admin", p.admin)
	p.cmd.Stderr = log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if r, err := http.Get("http://" + p.admin + "/readyz"); err == nil {
			r.Body.Close()
			return nil
		}
	}
	return errors.New("xdsserver does not become ready")
}

func (p *plane) log() string { return filepath.Join(p.dir, "log") }

// logged is the number of lines in the log.
func (p *plane) logged() int {
	text, _ := os.ReadFile(p.log()) // a log that is not there has none
	return bytes.Count(text, []byte("\n"))
}

func (p *plane) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait() // it was killed
		p.cmd = nil
	}
}

// cpu is the processor time of the process so far.
func (p *plane) cpu() time.Duration {
	if p.cmd == nil {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(text, []byte(") "))
	fields := strings.Fields(string(rest))
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
		n, _ := strconv.ParseInt(f, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// memory is what the process has resident, now and at most.
func (p *plane) memory() (now, peak int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			now = kib << 10
		}
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			peak = kib << 10
		}
	}
	return now, peak
}
