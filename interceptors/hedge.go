package interceptors

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// runHedged makes the attempts of a unary call side by side: the first good
// answer wins. Every attempt has a reply of its own, undecoded; the winner's is
// decoded into the caller's. When it returns, every attempt has ended.
func (u *unary) runHedged() error {
	codec, err := codecOf(u.opts)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	req, err := codec.encode(u.req)
	if err != nil {
		return err
	}
	own := *u // on the heap, not the caller's
	r := &race{call: u.call, ctx: u.call, opts: u.opts, hedge: true}
	r.try = func(a *attempt) error {
		permit, err := a.pass()
		if err == nil {
			opts := append(a.out.opts, grpc.ForceCodecV2(codec))
			err = own.invoker(a.counted(&a.call), own.method, req, &a.reply, own.cc, opts...)
		}
		a.permit = permit
		a.end(err)
		if err == nil {
			r.win(a)
		}
		return err
	}
	r.start()
	<-r.decided
	r.lanes.Wait()
	if err = r.err; err == nil {
		err = codec.decode(&r.best.reply, u.reply)
	}
	r.best.out.copyOut(u.opts, u.editHeaders)
	return err
}
