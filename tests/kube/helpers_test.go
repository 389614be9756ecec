package kube

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"takt.dev/takt/tests/kube/node"
)

// served is the usual beginning: a kubelet, a daemon, and all slots known.
func served(t *testing.T) (*node.Node, *daemon) {
	t.Helper()
	return servedWith(t, settings{})
}

func servedWith(t *testing.T, with settings) (*node.Node, *daemon) {
	t.Helper()
	n := node.New(t)
	n.StartKubelet()
	d := startDaemon(t, with)
	n.Await(resource, all)
	return n, d
}

// running gives a pod whose container runs with one slot, and the slot.
func running(t *testing.T, n *node.Node) (*v1.Pod, string) {
	t.Helper()
	pod := node.Pod(resource, 1)
	admit(t, n, pod)
	run(t, n, pod, node.Work)
	return pod, slot(t, n, pod)
}

func admit(t *testing.T, n *node.Node, pod *v1.Pod) {
	t.Helper()
	if err := n.Admit(pod); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, n *node.Node, pod *v1.Pod, container string) {
	t.Helper()
	if _, err := n.Run(pod, container); err != nil {
		t.Fatal(err)
	}
}

// slot gives the one slot that a pod's container holds.
func slot(t *testing.T, n *node.Node, pod *v1.Pod) string {
	t.Helper()
	slots := n.Slots(pod, node.Work, resource)
	if len(slots) != 1 {
		t.Fatalf("%s holds %v, not one slot", pod.Name, slots)
	}
	return slots[0]
}

// keeps says that a pod still holds what it was given.
func keeps(t *testing.T, n *node.Node, pod *v1.Pod, had string) {
	t.Helper()
	if has := slot(t, n, pod); has != had {
		t.Fatalf("%s holds %s, and had %s", pod.Name, has, had)
	}
}

// nobodyRefused says that a kubelet that started took every pod that ran.
func nobodyRefused(t *testing.T, refused map[string]error) {
	t.Helper()
	for pod, why := range refused {
		t.Errorf("the kubelet refused %s: %v", pod, why)
	}
}

// registeredAgain waits for sockets in the place of others.
func registeredAgain(t *testing.T, n *node.Node, before []string) {
	t.Helper()
	n.Until(func() error {
		now := sockets(t)
		if len(now) != 1 || slices.Contains(before, now[0]) {
			return fmt.Errorf("sockets %v after %v: not one new name", now, before)
		}
		return nil
	})
}

func gpuOf(t *testing.T, slot string) string {
	t.Helper()
	for _, gpu := range []string{gpuA, gpuB} {
		if strings.Contains(slot, gpu) {
			return gpu
		}
	}
	t.Fatalf("slot %s names no GPU", slot)
	return ""
}
