package kube

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"takt.dev/takt/tests/kube/node"
)

// What every daemon of these cases offers: two GPUs of four slots each.
const (
	resource = "takt.dev/gpu"
	gpuA     = "GPU-aaaaaaaa-0000-4000-8000-000000000001"
	gpuB     = "GPU-bbbbbbbb-0000-4000-8000-000000000002"
	perGPU   = 4
)

var all = node.Count{Capacity: 2 * perGPU, Allocatable: 2 * perGPU}

// daemon is a device plugin as a process: taktd where TAKT_KUBE_DAEMON names it, the reference plugin else.
type daemon struct {
	t    testing.TB
	dir  string
	args []string
	cmd  *exec.Cmd
	out  *bytes.Buffer
}

// settings are what a case adds to the usual configuration file; $DIR in it is the daemon's folder.
type settings struct{ flags, slot, takt string }

// newDaemon lays out a daemon's folder.
func newDaemon(t testing.TB, with settings) *daemon {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "takt-") // short, as sockets lie below it
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "kube.yaml")
	text := "version: v1\n" + with.flags + fmt.Sprintf("sharing:\n  timeSlicing:\n    resources:\n    - name: %s\n      replicas: %d\n",
		resource, perGPU) + with.slot + with.takt
	text = strings.ReplaceAll(text, "$DIR", dir)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "lost"), 0o755); err != nil {
		t.Fatal(err)
	}
	return &daemon{t: t, dir: dir, args: []string{
		"--dir", dir, "--device", gpuA + ":42949672960", "--device", gpuB + ":42949672960", "--kube", config,
	}}
}

func startDaemon(t testing.TB, with settings) *daemon {
	t.Helper()
	d := newDaemon(t, with)
	d.start()
	return d
}

// named is the daemon that is to be tested; "" for the reference plugin.
func named() string { return os.Getenv("TAKT_KUBE_DAEMON") }

func (d *daemon) start() {
	d.t.Helper()
	if path := named(); path != "" {
		d.cmd = exec.Command(path, d.args...)
	} else {
		d.cmd = exec.Command("/proc/self/exe", d.args...)
		d.cmd.Env = append(os.Environ(), asReference+"=1")
	}
	d.out = new(bytes.Buffer)
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	cmd, out := d.cmd, d.out
	d.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if d.t.Failed() {
			d.t.Logf("the daemon's log:\n%s", out)
		}
	})
}

// kill ends the daemon as a crash would.
func (d *daemon) kill() { d.end(unix.SIGKILL) }

// stop ends the daemon as an update would.
func (d *daemon) stop() { d.end(unix.SIGTERM) }

func (d *daemon) end(signal unix.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(signal); err != nil {
		d.t.Fatal(err)
	}
	_ = d.cmd.Wait()
	if signal == unix.SIGTERM && d.cmd.ProcessState.ExitCode() != 0 {
		d.t.Fatalf("it ended with %v", d.cmd.ProcessState)
	}
}

// lose takes a GPU away; find brings it back.
func (d *daemon) lose(gpu string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, "lost", gpu), nil, 0o644); err != nil {
		d.t.Fatal(err)
	}
}

func (d *daemon) find(gpu string) {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.dir, "lost", gpu)); err != nil {
		d.t.Fatal(err)
	}
}

// sockets gives the sockets that plugins serve in the kubelet's folder.
func sockets(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir(node.Plugins)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Type() == os.ModeSocket && e.Name() != filepath.Base(node.Socket) {
			names = append(names, e.Name())
		}
	}
	return names
}
