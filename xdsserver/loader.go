package xdsserver

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/files"
)

// loader reads the configuration, from disk and from memory, and decides what of it is in force.
type loader struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	deliver func(*config.Model) // takes each model that is to be served
	watcher *files.Watcher      // nil without files on disk

	mu     sync.Mutex
	disk   []config.File
	memory []config.File
	kept   []config.File // from before the restart, where the start needed them
	state  configState
	again  *time.Timer // while what is in force could not be kept for a restart
	closed bool
}

// configState is the configuration that is in force and how it came to be so.
type configState struct {
	model    *config.Model
	problems []config.Problem // found when it was last read
	loaded   time.Time        // when it was last read
	restored bool             // some of it is from before a restart
}

func newLoader(opts Options, m *metrics, deliver func(*config.Model)) *loader {
	return &loader{opts: opts, log: opts.Logger, metrics: m, deliver: deliver}
}

// start reads the configuration for the first time and then follows the files.
func (l *loader) start(ctx context.Context) error {
	l.mu.Lock()
	if len(l.opts.Config) > 0 {
		l.watcher, l.disk = files.Watch(files.Options{Paths: l.opts.Config, Logger: l.log}, l.changed)
	}
	err := l.first()
	l.mu.Unlock()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		l.close()
	}
	return err
}

// first makes the first model: of the files as they are or, where they are bad, as they were when they were last good.
// It fails when that leaves nothing.
func (l *loader) first() error {
	model, problems := config.Build(l.disk, l.build(nil))
	restored := false
	if config.HasErrors(problems) {
		kept := l.lastGood()
		if kept == nil {
			return config.AsError(problems)
		}
		l.kept = kept
		before, _ := config.Build(kept, l.build(nil))
		found := problems
		model, problems = config.Build(withMissing(l.disk, kept), l.build(before))
		if len(model.Objects()) == 0 {
			return config.AsError(found)
		}
		restored = true
	}
	l.take(model, problems, restored)
	if restored {
		l.log.Error("the configuration has errors: what was good before the restart is served", "files", model.Kept)
	}
	return nil
}

// lastGood returns the configuration that was in force before the restart, nil when there is none that can be used.
func (l *loader) lastGood() []config.File {
	if l.opts.StateDir == "" {
		return nil
	}
	set, err := files.LoadSet(l.statePath())
	if err != nil {
		l.log.Error("the last good configuration cannot be read", "error", err)
	}
	if len(set) == 0 {
		return nil
	}
	kept := parse(l.asWritten(set), nil)
	if _, problems := config.Build(kept, l.build(nil)); config.HasErrors(problems) {
		l.log.Error("the last good configuration is not good any more", "error", config.AsError(problems))
		return nil
	}
	return kept
}

// asWritten names kept files as the paths of the configuration are written now.
func (l *loader) asWritten(set map[string][]byte) map[string][]byte {
	out := make(map[string][]byte, len(set))
	for name, data := range set {
		out[l.written(name)] = data
	}
	return out
}

func (l *loader) written(name string) string {
	for _, p := range l.opts.Config {
		abs, err := filepath.Abs(p)
		if err != nil {
			continue
		}
		rel, err := filepath.Rel(abs, name)
		switch {
		case err != nil || !filepath.IsLocal(rel):
		case rel == ".":
			return p
		default:
			return filepath.Join(p, rel)
		}
	}
	return name
}

// absolute names the files to be kept by where they are: the next start may write the paths otherwise, or be in another
// directory. Files in memory are nowhere.
func (l *loader) absolute(set map[string][]byte) map[string][]byte {
	out := make(map[string][]byte, len(set))
	for name, data := range set {
		if !slices.ContainsFunc(l.memory, func(f config.File) bool { return f.Name == name }) {
			if abs, err := filepath.Abs(name); err == nil {
				name = abs
			}
		}
		out[name] = data
	}
	return out
}

// withMissing adds to what was read the kept files below paths that cannot be read.
func withMissing(read, kept []config.File) []config.File {
	for _, f := range slices.Clone(read) {
		if f.Data != nil || len(f.Problems) == 0 {
			continue
		}
		for _, k := range kept {
			if files.Below(f.Name, k.Name) && !slices.ContainsFunc(read, func(r config.File) bool { return r.Name == k.Name }) {
				read = append(read, k)
			}
		}
	}
	return read
}

func (l *loader) statePath() string { return filepath.Join(l.opts.StateDir, "config.json") }

func (l *loader) build(previous *config.Model) config.Options {
	return config.Options{
		Domain:           l.opts.Domain,
		AllowUnenforced:  l.opts.AllowUnenforced,
		OpenRegistration: l.opts.Registration == RegistrationAny,
		Previous:         previous,
	}
}

// changed takes the files on disk after a change.
func (l *loader) changed(disk []config.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.state.model == nil {
		return
	}
	l.disk = disk
	l.reload()
}

// apply takes the files in memory.
func (l *loader) apply(set map[string][]byte) ([]config.Problem, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.memory = parse(set, l.memory)
	if !l.closed {
		l.reload()
	}
	var own []config.Problem
	for _, p := range l.state.problems {
		if _, ok := set[p.File]; ok {
			own = append(own, p)
		}
	}
	return slices.Clone(l.state.problems), config.AsError(own)
}

// parse reads files that are in memory, in the order of their names. Those that are the same as before are taken over.
func parse(set map[string][]byte, before []config.File) []config.File {
	list := make([]config.File, 0, len(set))
	known := make(map[string]config.File, len(before))
	for _, f := range before {
		known[f.Name] = f
	}
	for name, data := range set {
		f, ok := known[name]
		if !ok || !bytes.Equal(data, f.Data) {
			f = config.Parse(name, bytes.Clone(data))
		}
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b config.File) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func (l *loader) reload() {
	model, problems := config.Build(slices.Concat(withMissing(l.disk, l.kept), l.memory), l.build(l.state.model))
	l.take(model, problems, l.state.restored && len(model.Kept) > 0)
}

// take puts a model in force.
func (l *loader) take(m *config.Model, problems []config.Problem, restored bool) {
	before := l.state.problems
	l.state = configState{model: m, problems: problems, loaded: time.Now(), restored: restored}
	l.report(before)
	l.deliver(m)
	l.keep()
}

// keepAgain is the time between two tries to keep what could not be kept.
const keepAgain = time.Second

// keep keeps what is in force for a restart: later, at the latest at the end, if it cannot be now. That is logged once.
func (l *loader) keep() {
	if l.opts.StateDir == "" {
		return
	}
	err := files.SaveSet(l.statePath(), l.absolute(l.state.model.Raw()))
	switch {
	case err == nil && l.again != nil:
		l.again.Stop()
		l.again = nil
	case err == nil:
	case l.again == nil:
		l.log.Error("the configuration cannot be kept for a restart", "error", err)
		l.again = time.AfterFunc(keepAgain, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if !l.closed && l.again != nil {
				l.keep()
			}
		})
	default:
		l.again.Reset(keepAgain)
	}
}

// report logs the problems that are new and counts all.
func (l *loader) report(before []config.Problem) {
	counts := map[config.Severity]int{config.Error: 0, config.Warning: 0, config.Info: 0}
	known := make(map[config.Problem]struct{}, len(before))
	for _, p := range before {
		known[p] = struct{}{}
	}
	for _, p := range l.state.problems {
		counts[p.Severity]++
		if _, said := known[p]; said {
			continue
		}
		level := map[config.Severity]slog.Level{config.Error: slog.LevelError, config.Warning: slog.LevelWarn, config.Info: slog.LevelInfo}[p.Severity]
		l.log.Log(context.Background(), level, "configuration: "+p.String())
	}
	for severity, n := range counts {
		l.metrics.problems.WithLabelValues(severity.String()).Set(float64(n))
	}
	result := "applied"
	if counts[config.Error] > 0 {
		result = "partly"
	} else {
		l.metrics.lastSuccess.SetToCurrentTime()
	}
	l.metrics.reloads.WithLabelValues(result).Inc()
	m := l.state.model
	l.log.Info("configuration in force", "virtualServices", len(m.VirtualServices), "destinationRules", len(m.DestinationRules),
		"serviceEntries", len(m.ServiceEntries), "services", len(m.Services), "refused", config.Refused(l.state.problems))
}

// current returns the configuration in force.
func (l *loader) current() configState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// close stops following the files. What could not be kept is tried a last time.
func (l *loader) close() {
	l.mu.Lock()
	if !l.closed && l.again != nil {
		l.keep()
	}
	if l.closed = true; l.again != nil {
		l.again.Stop()
	}
	l.mu.Unlock()
	if l.watcher != nil {
		_ = l.watcher.Close() // it only waits
	}
}
