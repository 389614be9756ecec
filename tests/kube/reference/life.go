package reference

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"
	"k8s.io/klog/v2"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// registration is one socket, served for as long as the kubelet holds it. The kubelet refuses a name that it still
// knows, and is stuck then, so each registration has a name of its own.
type registration struct {
	socket string
	server *grpc.Server
	hungUp chan struct{} // told when the kubelet closes its connection
}

// live keeps the plugin registered until the context ends.
func (p *plugin) live(ctx context.Context) error {
	if err := errors.Join(p.writeCDI(), os.MkdirAll(pluginapi.DevicePluginPath, 0o750), os.MkdirAll(p.dir+"/lost", 0o755)); err != nil {
		return err
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer watcher.Close()
	if err := errors.Join(watcher.Add(pluginapi.DevicePluginPath), watcher.Add(p.dir+"/lost")); err != nil {
		return err
	}
	p.lookForLost()
	for n := 0; ctx.Err() == nil; n++ {
		r, err := p.register(ctx, n)
		if err != nil {
			klog.ErrorS(err, "Not registered")
		}
		p.awaitReason(ctx, watcher, r, err != nil)
		r.end()
	}
	return nil
}

func (p *plugin) register(ctx context.Context, n int) (*registration, error) {
	name := fmt.Sprintf("takt-%d-%d.sock", os.Getpid(), n)
	r := &registration{socket: filepath.Join(pluginapi.DevicePluginPath, name), hungUp: make(chan struct{}, 1)}
	_ = os.Remove(r.socket)
	listener, err := net.Listen("unix", r.socket)
	if err != nil {
		return nil, err
	}
	r.server = grpc.NewServer(grpc.StatsHandler(r))
	pluginapi.RegisterDevicePluginServer(r.server, p)
	go func() { _ = r.server.Serve(listener) }() // until Stop

	conn, err := grpc.NewClient("unix://"+pluginapi.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		return r, err
	}
	defer conn.Close()
	// A kubelet that starts may have swept our socket away before it looks for it; it would look for ten seconds.
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err = pluginapi.NewRegistrationClient(conn).Register(ctx, &pluginapi.RegisterRequest{
		Version: pluginapi.Version, Endpoint: name, ResourceName: p.resource, Options: p.options(),
	})
	return r, err
}

func (r *registration) end() {
	if r != nil {
		r.server.Stop()
	}
}

// awaitReason waits until there is a reason to register anew.
func (p *plugin) awaitReason(ctx context.Context, watcher *fsnotify.Watcher, r *registration, soon bool) {
	var again <-chan time.Time
	if soon {
		again = time.After(100 * time.Millisecond)
	}
	var hungUp <-chan struct{}
	if r != nil {
		hungUp = r.hungUp
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-again:
			return
		case <-hungUp:
			if _, err := os.Stat(pluginapi.KubeletSocket); err == nil {
				return
			}
		case event := <-watcher.Events:
			switch {
			case filepath.Dir(event.Name) == p.dir+"/lost":
				p.lookForLost()
			case event.Name == pluginapi.KubeletSocket && event.Has(fsnotify.Create):
				return
			case r != nil && event.Name == r.socket && event.Has(fsnotify.Remove):
				if _, err := os.Stat(pluginapi.KubeletSocket); err == nil {
					return
				}
			}
		}
	}
}

// lookForLost takes each file in the folder `lost` for a GPU of that name.
func (p *plugin) lookForLost() {
	entries, err := os.ReadDir(p.dir + "/lost")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		klog.ErrorS(err, "Cannot see what is lost")
	}
	var gpus []string
	for _, e := range entries {
		gpus = append(gpus, e.Name())
	}
	p.setLost(gpus)
}

// The server tells a stats.Handler when connections end.

func (r *registration) HandleConn(_ context.Context, event stats.ConnStats) {
	if _, ended := event.(*stats.ConnEnd); ended {
		select {
		case r.hungUp <- struct{}{}:
		default:
		}
	}
}

func (r *registration) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (r *registration) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (r *registration) HandleRPC(context.Context, stats.RPCStats)                         {}
