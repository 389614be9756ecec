package kube

import (
	"testing"

	"takt.dev/takt/tests/kube/node"
)

// found is a node whose kubelet finds the daemon in its folder for plugins, instead of being told.
var found = settings{takt: "takt:\n  registration: watcher\n"}

func TestWatcherFindsTheDaemonOfEitherOrder(t *testing.T) {
	for _, first := range []string{"kubelet", "daemon"} {
		t.Run(first+" first", func(t *testing.T) {
			n := node.New(t)
			d := newDaemon(t, found)
			if first == "daemon" {
				d.start()
			}
			n.StartKubelet()
			if first == "kubelet" {
				d.start()
			}
			n.Await(resource, all)
			running(t, n)
		})
	}
}

func TestWatcherOfANewKubeletFindsTheDaemon(t *testing.T) {
	n, _ := servedWith(t, found)
	pod, had := running(t, n)
	for range 2 {
		nobodyRefused(t, n.RestartKubelet())
		n.Await(resource, all)
		keeps(t, n, pod, had)
	}
	n.KillKubelet()
	nobodyRefused(t, n.StartKubelet())
	n.Await(resource, all)
	keeps(t, n, pod, had)
}

func TestWatcherMissesTheDaemonAndFindsTheNext(t *testing.T) {
	n, d := servedWith(t, found)
	pod, had := running(t, n)
	for _, end := range []func(){d.stop, d.kill} {
		end()
		n.Await(resource, node.Count{Capacity: 2 * perGPU})
		d.start()
		n.Await(resource, all)
		keeps(t, n, pod, had)
	}
}
