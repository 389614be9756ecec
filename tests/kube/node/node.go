// Package node is a node of a cluster with the kubelet's own device manager, plugin watcher and pod-resources server.
// What a kubelet asks of others (pods from the API server, containers of the runtime) is kept here in plain tables.
package node

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/cm/containermap"
	"k8s.io/kubernetes/pkg/kubelet/cm/devicemanager"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
)

// The kubelet's folders.
const (
	Root        = "/var/lib/kubelet"
	Plugins     = Root + "/device-plugins"
	Socket      = Plugins + "/kubelet.sock"
	Checkpoint  = Plugins + "/kubelet_internal_checkpoint"
	patience    = 30 * time.Second
	lookAgainIn = 5 * time.Millisecond
)

// Node is what outlives a kubelet.
type Node struct {
	t       testing.TB
	log     lockedBuffer
	mu      sync.Mutex
	pods    []*v1.Pod
	running map[string]container
	started int
	kubelet *kubelet
}

type container struct{ pod, name string }

// New gives a node without pods, and no kubelet yet.
func New(t testing.TB) *Node {
	t.Helper()
	if err := emptied(Root); err != nil {
		t.Fatal(err)
	}
	n := &Node{t: t, running: make(map[string]container)}
	if err := logTo(&n.log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.StopKubelet()
		klog.Flush()
		if t.Failed() {
			t.Logf("the kubelet's log:\n%s", n.log.String())
		}
	})
	return n
}

// logTo has the kubelet's code write its log, each line once, and nothing to the terminal.
func logTo(to io.Writer) error {
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	klog.SetOutput(to)
	return flags.Parse([]string{"-logtostderr=false", "-stderrthreshold=FATAL", "-one_output"})
}

func emptied(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(folder)
	for _, e := range entries {
		err = errorOr(err, os.RemoveAll(folder+"/"+e.Name()))
	}
	return err
}

func errorOr(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// Admit does what a kubelet does with a pod that is bound to its node: it allocates for each container, or refuses.
func (n *Node) Admit(pod *v1.Pod) error {
	n.mu.Lock()
	if !slices.Contains(n.pods, pod) {
		n.pods = append(n.pods, pod)
	}
	n.mu.Unlock()
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if err := n.devices().Allocate(context.Background(), pod, &c, lifecycle.AddOperation); err != nil {
			n.end(pod, v1.PodFailed)
			return fmt.Errorf("pod %s, container %s: %w", pod.Name, c.Name, err)
		}
	}
	return nil
}

// Run starts, or starts again, a container of a pod, and gives what the device plugin wanted in it.
func (n *Node) Run(pod *v1.Pod, name string) (*devicemanager.DeviceRunContainerOptions, error) {
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if c.Name != name {
			continue
		}
		options, err := n.devices().GetDeviceRunContainerOptions(context.Background(), pod, &c)
		if err != nil {
			return nil, err
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.halt(func(c container) bool { return c == container{string(pod.UID), name} })
		n.started++
		n.running[fmt.Sprintf("container-%d", n.started)] = container{string(pod.UID), name}
		return options, nil
	}
	return nil, fmt.Errorf("pod %s has no container %s", pod.Name, name)
}

// halt stops containers; under the lock.
func (n *Node) halt(which func(container) bool) {
	for id, c := range n.running {
		if which(c) {
			delete(n.running, id)
		}
	}
}

// Succeed ends a pod's containers well; the pod stays known.
func (n *Node) Succeed(pod *v1.Pod) { n.end(pod, v1.PodSucceeded) }

// Delete forgets a pod, as after its removal from the API server.
func (n *Node) Delete(pod *v1.Pod) {
	n.end(pod, v1.PodSucceeded)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pods = slices.DeleteFunc(n.pods, func(p *v1.Pod) bool { return p == pod })
}

func (n *Node) end(pod *v1.Pod, phase v1.PodPhase) {
	n.mu.Lock()
	defer n.mu.Unlock()
	pod.Status.Phase = phase
	n.halt(func(c container) bool { return c.pod == string(pod.UID) })
}

// LosePower stops every container, and the kubelet without a farewell.
func (n *Node) LosePower() {
	n.KillKubelet()
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.running)
}

// active gives the pods that a kubelet counts: those that have not ended.
func (n *Node) active() []*v1.Pod {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(n.pods), func(p *v1.Pod) bool {
		return p.Status.Phase == v1.PodFailed || p.Status.Phase == v1.PodSucceeded
	})
}

// containers gives what a starting kubelet hears from the runtime.
func (n *Node) containers() (containermap.ContainerMap, sets.Set[string]) {
	n.mu.Lock()
	defer n.mu.Unlock()
	known, running := containermap.NewContainerMap(), sets.New[string]()
	for id, c := range n.running {
		known.Add(c.pod, c.name, id)
		running.Insert(id)
	}
	return known, running
}

// lockedBuffer keeps a log that several write.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
