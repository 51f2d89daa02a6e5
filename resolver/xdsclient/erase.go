package xdsclient

// anyType is a ResourceType whose value type is hidden, which is how the client
// stores types that differ in T.
type anyType struct {
	id        any // the *ResourceType[T]
	url       string
	name      string
	fullState bool
	decode    func(name string, body []byte) Decoded[any]
}

// anyWatcher is a Watcher whose value type is hidden.
type anyWatcher struct {
	update  func(u Update[any], done func())
	missing func(name string, err error, done func())
	failed  func(name string, err error, done func())
}

func eraseType[T any](t *ResourceType[T]) anyType {
	return anyType{
		id: t, url: t.TypeURL, name: t.Name, fullState: t.FullState,
		decode: func(name string, body []byte) Decoded[any] {
			d := t.Decode(name, body)
			return Decoded[any]{Name: d.Name, Value: d.Value, Usable: d.Usable, Err: d.Err}
		},
	}
}

func eraseWatcher[T any](w Watcher[T]) anyWatcher {
	return anyWatcher{
		update: func(u Update[any], done func()) {
			v, _ := u.Value.(T) // the zero T where T is an interface and the value nil
			w.Update(Update[T]{Name: u.Name, Value: v, Version: u.Version, Err: u.Err, Stale: u.Stale}, done)
		},
		missing: w.Missing,
		failed:  w.Error,
	}
}
