package kube

import (
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"takt.dev/takt/tests/kube/node"
)

var half = node.Count{Capacity: 2 * perGPU, Allocatable: perGPU}

func TestLostGPUTakesAllItsSlotsAndFoundGivesThemBack(t *testing.T) {
	n, d := served(t)
	for range 2 {
		d.lose(gpuA)
		n.Await(resource, half)
		for _, id := range n.AllSlots(resource) {
			if gpuOf(t, id) == gpuA {
				t.Errorf("%s is healthy", id)
			}
		}
		d.lose(gpuB)
		n.Await(resource, node.Count{Capacity: 2 * perGPU})
		d.find(gpuA)
		n.Await(resource, half)
		d.find(gpuB)
		n.Await(resource, all)
	}
}

func TestLostGPUShowsInThePodsStatus(t *testing.T) {
	n, d := served(t)
	updates := n.Updates()
	pod, slot := running(t, n)
	gpu := gpuOf(t, slot)
	isToldAs := func(want v1.ResourceHealthStatus) {
		t.Helper()
		select {
		case pods := <-updates:
			if len(pods) != 1 || pods[0] != string(pod.UID) {
				t.Fatalf("told of %v", pods)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("nothing was told")
		}
		if got := n.Health(pod)[slot]; got != want {
			t.Fatalf("%s is %s, not %s", slot, got, want)
		}
	}
	d.lose(gpu)
	isToldAs(v1.ResourceHealthStatusUnhealthy)
	keeps(t, n, pod, slot)
	d.find(gpu)
	isToldAs(v1.ResourceHealthStatusHealthy)
	keeps(t, n, pod, slot)
}

func TestLostGPUIsGivenToNobody(t *testing.T) {
	n, d := served(t)
	d.lose(gpuB)
	n.Await(resource, half)
	for range perGPU {
		if pod, slot := running(t, n); gpuOf(t, slot) != gpuA {
			t.Fatalf("%s was given %s", pod.Name, slot)
		}
	}
	if err := n.Admit(node.Pod(resource, 1)); err == nil {
		t.Fatal("a slot of the lost GPU was given")
	}
}

// What was lost before the kubelet's next life is lost in it.
func TestLostGPUStaysLostForANewKubelet(t *testing.T) {
	n, d := served(t)
	d.lose(gpuA)
	n.Await(resource, half)
	n.RestartKubelet()
	n.Await(resource, half)
	d.find(gpuA)
	n.Await(resource, all)
}

// A pod keeps a device that is unwell, and its capacity; when it goes nothing changes.
func TestPodOutlivesItsGPU(t *testing.T) {
	n, d := served(t)
	pod, slot := running(t, n)
	d.lose(gpuOf(t, slot))
	n.Await(resource, half)
	keeps(t, n, pod, slot)
	n.Delete(pod)
	if got := n.Of(resource); got != half {
		t.Fatal(fmt.Sprint(got))
	}
}
