package kube

import (
	"os"
	"testing"

	v1 "k8s.io/api/core/v1"

	"takt.dev/takt/tests/kube/node"
)

func TestPodGetsASlotAndTheListingShowsIt(t *testing.T) {
	n, _ := served(t)
	pod, had := running(t, n)
	other, has := running(t, n)
	if had == has {
		t.Fatalf("%s and %s share %s", pod.Name, other.Name, had)
	}
	if listed := n.Listed(); len(listed) != 2 {
		t.Fatalf("listed: %v", listed)
	}
}

func TestEverySlotIsGivenOnceAndThenNoMore(t *testing.T) {
	n, _ := served(t)
	holder := make(map[string]*v1.Pod)
	var last *v1.Pod
	for range 2 * perGPU {
		pod, slot := running(t, n)
		if holder[slot] != nil {
			t.Fatalf("%s and %s share %s", pod.Name, holder[slot].Name, slot)
		}
		holder[slot], last = pod, pod
	}
	if err := n.Admit(node.Pod(resource, 1)); err == nil {
		t.Fatal("more pods than slots")
	}
	n.Delete(last)
	running(t, n)
}

func TestContainerRestarted(t *testing.T) {
	n, _ := served(t)
	pod, had := running(t, n)
	first, err := n.Run(pod, node.Work)
	if err != nil {
		t.Fatal(err)
	}
	run(t, n, pod, node.Work)
	keeps(t, n, pod, had)
	if len(first.CDIDevices)+len(first.Mounts) == 0 {
		t.Error("the next container is given nothing")
	}
	other, _ := running(t, n)
	keeps(t, n, pod, had)
	n.Delete(other)
}

func TestKubeletRestarted(t *testing.T) {
	n, _ := served(t)
	pod, had := running(t, n)
	nobodyRefused(t, n.RestartKubelet())
	n.Await(resource, all)
	keeps(t, n, pod, had)
}

func TestContainerAndKubeletRestarted(t *testing.T) {
	n, _ := served(t)
	pod, had := running(t, n)
	run(t, n, pod, node.Work)
	nobodyRefused(t, n.RestartKubelet())
	n.Await(resource, all)
	run(t, n, pod, node.Work)
	keeps(t, n, pod, had)
}

func TestDaemonRestarted(t *testing.T) {
	n, d := served(t)
	pod, had := running(t, n)
	d.kill()
	n.Await(resource, node.Count{Capacity: 2 * perGPU})
	keeps(t, n, pod, had)
	d.start()
	n.Await(resource, all)
	keeps(t, n, pod, had)
	run(t, n, pod, node.Work)
	keeps(t, n, pod, had)
	if _, slot := running(t, n); slot == had {
		t.Fatalf("%s was given twice", had)
	}
}

func TestKubeletAndDaemonRestarted(t *testing.T) {
	n, d := served(t)
	pod, had := running(t, n)
	nobodyRefused(t, n.RestartKubelet())
	keeps(t, n, pod, had)
	d.kill()
	d.start()
	n.Await(resource, all)
	keeps(t, n, pod, had)
	if _, slot := running(t, n); slot == had {
		t.Fatalf("%s was given twice", had)
	}
}

func TestPodThatSucceededIsNotAdmittedAgainWithoutTheDaemon(t *testing.T) {
	n, d := served(t)
	pod, _ := running(t, n)
	n.Succeed(pod)
	d.stop()
	n.Await(resource, node.Count{Capacity: 2 * perGPU})
	nobodyRefused(t, n.RestartKubelet())
	if pod.Status.Phase != v1.PodSucceeded {
		t.Fatalf("it is %s", pod.Status.Phase)
	}
}

func TestPodDeletedWhileTheKubeletIsDown(t *testing.T) {
	n, _ := served(t)
	pod, had := running(t, n)
	n.StopKubelet()
	n.Delete(pod)
	nobodyRefused(t, n.StartKubelet())
	n.Await(resource, all)
	if listed := n.Listed(); len(listed) != 0 {
		t.Fatalf("still listed: %v", listed)
	}
	for range 2*perGPU - 1 {
		running(t, n)
	}
	if _, slot := running(t, n); slot == "" {
		t.Fatalf("%s never came back", had)
	}
}

func TestRestartableInitContainerSharesWithTheFirstButNotWithTheWork(t *testing.T) {
	n, _ := served(t)
	always := v1.ContainerRestartPolicyAlways
	pod := node.Pod(resource, 1)
	pod.Spec.InitContainers = []v1.Container{node.Container("first", resource, 1), node.Container("beside", resource, 1)}
	pod.Spec.InitContainers[1].RestartPolicy = &always
	admit(t, n, pod)
	for _, name := range []string{"first", "beside", node.Work} {
		run(t, n, pod, name)
	}
	beside, work := n.Slots(pod, "beside", resource), n.Slots(pod, node.Work, resource)
	if len(beside) != 1 || len(work) != 1 || beside[0] == work[0] {
		t.Fatalf("beside holds %v, work %v", beside, work)
	}
	if first := n.Held(pod, "first", resource); len(first) != 1 || first[0] != beside[0] {
		t.Fatalf("first held %v, beside %v", first, beside)
	}
}

// After a power cut pods come before the daemon does: they are refused, and hold nothing.
func TestNodeRebooted(t *testing.T) {
	n, d := served(t)
	pod, _ := running(t, n)
	n.LosePower()
	d.kill()
	if refused := n.StartKubelet(); refused[pod.Name] == nil {
		t.Fatal("a pod was admitted before its device was there")
	}
	if listed := n.Listed(); len(listed) != 0 {
		t.Fatalf("listed: %v", listed)
	}
	d.start()
	n.Await(resource, all)
	for range 2 * perGPU {
		running(t, n)
	}
}

// A kubelet that lost its notes asks for a slot that somebody holds: it must get an answer, and nobody's slot may vanish.
func TestCheckpointLost(t *testing.T) {
	n, _ := served(t)
	pod, _ := running(t, n)
	n.StopKubelet()
	if err := os.Remove(node.Checkpoint); err != nil {
		t.Fatal(err)
	}
	nobodyRefused(t, n.StartKubelet())
	n.Await(resource, all)
	if slots := n.Slots(pod, node.Work, resource); len(slots) != 0 {
		t.Fatalf("it remembers %v", slots)
	}
	for range 2*perGPU - 1 {
		running(t, n)
	}
	admit(t, n, pod)
	run(t, n, pod, node.Work)
	slot(t, n, pod)
}
