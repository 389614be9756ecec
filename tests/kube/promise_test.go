package kube

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"takt.dev/takt/tests/kube/node"
)

// promising is a node whose slots promise so much of a GPU that one pod fills it.
func promising(t *testing.T) (*node.Node, *daemon) {
	t.Helper()
	if named() == "" {
		t.Skip("the reference plugin promises nothing")
	}
	return servedWith(t, settings{slot: "      takt: {ttft: 2s, itl: 200ms, share: 60%}\n"})
}

// full gives the pods that fill both GPUs.
func full(t *testing.T, n *node.Node) []*v1.Pod {
	t.Helper()
	first, one := running(t, n)
	second, other := running(t, n)
	if gpuOf(t, one) == gpuOf(t, other) {
		t.Fatalf("%s and %s are promised on one GPU", one, other)
	}
	return []*v1.Pod{first, second}
}

func TestPromiseThatDoesNotFitIsRefusedWithItsReason(t *testing.T) {
	n, _ := promising(t)
	pods := full(t, n)
	late := node.Pod(resource, 1)
	if err := n.Admit(late); err == nil || !strings.Contains(err.Error(), "would break") {
		t.Fatalf("refused with: %v", err)
	}
	if listed := n.Listed(); len(listed) != len(pods) {
		t.Fatalf("listed: %v", listed)
	}
}

// The kubelet tells no plugin that a pod has ended: the daemon asks who is left before it refuses.
func TestPromiseOfAPodThatEndedIsGivenAgain(t *testing.T) {
	n, _ := promising(t)
	pods := full(t, n)
	if err := n.Admit(node.Pod(resource, 1)); err == nil {
		t.Fatal("a third promise of 60 % on two GPUs")
	}
	n.Delete(pods[0])
	running(t, n)
}

func TestPromisesOutliveTheDaemonAndTheKubelet(t *testing.T) {
	n, d := promising(t)
	full(t, n)
	for _, end := range []func(){d.kill, d.stop} {
		end()
		d.start()
		nobodyRefused(t, n.RestartKubelet())
		n.Await(resource, all)
		if err := n.Admit(node.Pod(resource, 1)); err == nil {
			t.Fatal("a third promise of 60 % on two GPUs")
		}
	}
}
