package kube

import (
	"testing"

	"takt.dev/takt/tests/kube/node"
)

// spread counts the pods on each GPU after so many have come.
func spread(t *testing.T, n *node.Node, pods int) map[string]int {
	t.Helper()
	on := make(map[string]int)
	for range pods {
		_, slot := running(t, n)
		on[gpuOf(t, slot)]++
	}
	return on
}

// The kubelet alone takes slots as they come out of a table.
func TestPodsAreSpreadOverGPUs(t *testing.T) {
	n, _ := served(t)
	for i := 1; i <= perGPU; i++ {
		if on := spread(t, n, 2); on[gpuA] != 1 || on[gpuB] != 1 {
			t.Fatalf("pair %d: %v", i, on)
		}
	}
}

func TestPodsArePackedWhereTheFileSaysSo(t *testing.T) {
	n, _ := servedWith(t, settings{flags: "flags:\n  plugin:\n    sharedDevicesAllocationPolicy: packed\n"})
	for i := 1; i <= 2; i++ {
		if on := spread(t, n, perGPU); len(on) != 1 {
			t.Fatalf("GPU %d: %v", i, on)
		}
	}
}

// A container works on one GPU, so that is where all its slots are.
func TestSlotsOfOneContainerAreOnOneGPU(t *testing.T) {
	n, _ := served(t)
	running(t, n)
	for range 3 {
		pod := node.Pod(resource, 2)
		admit(t, n, pod)
		slots := n.Slots(pod, node.Work, resource)
		if len(slots) != 2 || gpuOf(t, slots[0]) != gpuOf(t, slots[1]) {
			t.Fatalf("it holds %v", slots)
		}
	}
}
