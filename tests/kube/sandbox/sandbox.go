// Package sandbox gives a test a node's folders of its own, so that the machine is not touched.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

const inside = "TAKT_KUBE_INSIDE"

// ErrNone says that this machine lends no namespaces.
var ErrNone = errors.New("no namespaces of our own")

// Entered reports whether this process is in the sandbox; `Run` starts one that is.
func Entered() bool { return os.Getenv(inside) != "" }

// Run starts this program once more in private namespaces, and gives its exit status.
// The first process of the pid namespace ends all that it left running.
func Run() (int, error) {
	self := exec.Command("/proc/self/exe", os.Args[1:]...)
	self.Stdin, self.Stdout, self.Stderr = os.Stdin, os.Stdout, os.Stderr
	self.Env = append(os.Environ(), inside+"=1")
	self.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  unix.SIGKILL,
	}
	if os.Geteuid() != 0 {
		self.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		self.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		self.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	signal.Ignore(unix.SIGINT) // the terminal tells the child too
	if err := self.Start(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNone, err)
	}
	if err := self.Wait(); self.ProcessState.ExitCode() < 0 {
		return 0, err
	}
	return self.ProcessState.ExitCode(), nil
}

// Furnish lays empty folders over those of a node: the kubelet's and /run, where CDI files lie.
func Furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	lib := "/var/lib/kubelet"
	if _, err := os.Stat(lib); err != nil {
		lib = "/var/lib"
	}
	for _, path := range []string{lib, "/run"} {
		if err := unix.Mount("tmpfs", path, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}
