package kube

import (
	"fmt"
	"testing"

	"takt.dev/takt/tests/kube/node"
)

// both waits until the daemons each serve a socket.
func both(t *testing.T, n *node.Node) {
	t.Helper()
	n.Until(func() error {
		if now := sockets(t); len(now) != 2 {
			return fmt.Errorf("sockets %v: not two", now)
		}
		return nil
	})
}

// counted says that the second daemon's coming or going is not seen in the count: it is looked at until a pod has come.
func counted(t *testing.T, n *node.Node) {
	t.Helper()
	if got := n.Of(resource); got != all {
		t.Fatalf("%v", got)
	}
	pod, _ := running(t, n)
	if got := n.Of(resource); got != all {
		t.Fatalf("%v", got)
	}
	n.Delete(pod)
}

func TestNewDaemonTakesOver(t *testing.T) {
	n, old := served(t)
	pod, had := running(t, n)
	startDaemon(t, settings{})
	both(t, n)
	counted(t, n)
	old.stop()
	n.Await(resource, all)
	counted(t, n)
	keeps(t, n, pod, had)
	run(t, n, pod, node.Work)
}

func TestNewDaemonGoesAgain(t *testing.T) {
	n, _ := served(t)
	pod, had := running(t, n)
	late := startDaemon(t, settings{})
	both(t, n)
	counted(t, n)
	late.kill()
	n.Await(resource, all)
	keeps(t, n, pod, had)
	n.Until(func() error {
		again := node.Pod(resource, 1)
		defer n.Delete(again)
		return n.Admit(again)
	})
}

func TestTwoDaemonsAndANewKubelet(t *testing.T) {
	n, _ := served(t)
	startDaemon(t, settings{})
	both(t, n)
	n.RestartKubelet()
	n.Await(resource, all)
	both(t, n)
	n.Until(func() error {
		pod := node.Pod(resource, 1)
		defer n.Delete(pod)
		return n.Admit(pod)
	})
}

// An update of the daemon on a node: both have the same folder, so one follows the other.
func TestNewDaemonInTheSameFolderTakesOver(t *testing.T) {
	n, old := served(t)
	pod, had := running(t, n)
	next := &daemon{t: t, dir: old.dir, args: old.args}
	next.start()
	counted(t, n)
	old.stop()
	n.Await(resource, all)
	counted(t, n)
	keeps(t, n, pod, had)
	run(t, n, pod, node.Work)
	next.stop()
	n.Await(resource, node.Count{Capacity: 2 * perGPU})
}
