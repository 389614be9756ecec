package kube

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"takt.dev/takt/tests/kube/node"
)

func TestSlotsAppearAsCapacityAndAllocatable(t *testing.T) {
	n := node.New(t)
	n.StartKubelet()
	if got := n.Of(resource); got != node.Unknown {
		t.Fatalf("before anybody registered: %v", got)
	}
	startDaemon(t, settings{})
	n.Await(resource, all)
}

func TestSlotIDsAreUniqueShortAndTheSameInTheNextLife(t *testing.T) {
	n, d := served(t)
	ids := n.AllSlots(resource)
	if len(slices.Compact(slices.Clone(ids))) != 2*perGPU {
		t.Fatalf("not %d ids: %v", 2*perGPU, ids)
	}
	of := make(map[string]int)
	for _, id := range ids {
		if len(id) > 63 {
			t.Errorf("%s has more than 63 characters", id)
		}
		of[gpuOf(t, id)]++
	}
	if of[gpuA] != perGPU || of[gpuB] != perGPU {
		t.Errorf("slots of each GPU: %v", of)
	}
	d.stop()
	n.Await(resource, node.Count{Capacity: 2 * perGPU})
	d.start()
	n.Await(resource, all)
	if again := n.AllSlots(resource); !slices.Equal(again, ids) {
		t.Errorf("%v became %v", ids, again)
	}
}

func TestDaemonStartsBeforeTheKubelet(t *testing.T) {
	n := node.New(t)
	startDaemon(t, settings{})
	n.StartKubelet()
	n.Await(resource, all)
}

func TestDaemonStartsWhereNobodyAnswersTheKubeletsSocket(t *testing.T) {
	n := node.New(t)
	n.StartKubelet()
	n.KillKubelet()
	startDaemon(t, settings{})
	n.StartKubelet()
	n.Await(resource, all)
}

func TestKubeletRestartedWithoutPods(t *testing.T) {
	n, _ := served(t)
	for range 3 {
		before := sockets(t)
		n.RestartKubelet()
		n.Await(resource, all)
		registeredAgain(t, n, before)
	}
}

func TestKubeletKilledAndStarted(t *testing.T) {
	n, _ := served(t)
	n.KillKubelet()
	n.StartKubelet()
	n.Await(resource, all)
}

// The first order that got kubelets stuck: a daemon that registers again at once, before its last life is reaped.
func TestDaemonKilledAndStartedAtOnce(t *testing.T) {
	n, d := served(t)
	for range 10 {
		dead := d.cmd.Process
		if err := dead.Kill(); err != nil {
			t.Fatal(err)
		}
		d.start()
		n.Await(resource, all)
	}
	d.kill()
	n.Await(resource, node.Count{Capacity: 2 * perGPU})
}

// The second: the kubelet's socket is created again twice in quick succession.
func TestKubeletsSocketCreatedTwiceInQuickSuccession(t *testing.T) {
	n, d := served(t)
	for range 10 {
		n.RestartKubelet()
		n.RestartKubelet()
		n.Await(resource, all)
	}
	d.stop()
	n.Await(resource, node.Count{Capacity: 2 * perGPU})
}

// The name comes again, but the kubelet is the same: a stream that lives may not be registered a second time by its name.
func TestKubeletsSocketRenamedThereAndBack(t *testing.T) {
	n, d := served(t)
	for range 5 {
		aside := node.Root + "/aside"
		if err := os.Rename(node.Socket, aside); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(aside, node.Socket); err != nil {
			t.Fatal(err)
		}
	}
	n.Await(resource, all)
	d.stop()
	n.Await(resource, node.Count{Capacity: 2 * perGPU})
	d.start()
	n.Await(resource, all)
}

func TestOwnSocketRemoved(t *testing.T) {
	n, _ := served(t)
	before := sockets(t)
	for _, name := range before {
		if err := os.Remove(filepath.Join(node.Plugins, name)); err != nil {
			t.Fatal(err)
		}
	}
	registeredAgain(t, n, before)
	n.Await(resource, all)
}

// A kubelet never asks again for a list that broke.
func TestListAndWatchBroken(t *testing.T) {
	n, _ := served(t)
	for range 3 {
		before := sockets(t)
		for _, name := range before {
			n.HangUp(resource, filepath.Join(node.Plugins, name))
		}
		registeredAgain(t, n, before)
		n.Await(resource, all)
	}
}

func TestDaemonGone(t *testing.T) {
	for name, end := range map[string]func(*daemon){"stopped": (*daemon).stop, "killed": (*daemon).kill} {
		t.Run(name, func(t *testing.T) {
			n, d := served(t)
			end(d)
			n.Await(resource, node.Count{Capacity: 2 * perGPU})
			pod := node.Pod(resource, 1)
			if err := n.Admit(pod); err == nil {
				t.Fatal("a pod was admitted without a daemon")
			}
		})
	}
}

func TestStoppedDaemonLeavesNoSocket(t *testing.T) {
	_, d := served(t)
	d.stop()
	if left := sockets(t); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
}
