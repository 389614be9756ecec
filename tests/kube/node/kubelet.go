package node

import (
	"context"
	"net"
	"os"
	"sync/atomic"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	watcherapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"google.golang.org/grpc"
	listapi "k8s.io/kubelet/pkg/apis/podresources/v1"
	limiter "k8s.io/kubernetes/pkg/kubelet/apis/grpc"
	"k8s.io/kubernetes/pkg/kubelet/apis/podresources"
	"k8s.io/kubernetes/pkg/kubelet/cm/devicemanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager"
	"k8s.io/kubernetes/pkg/kubelet/config"
	"k8s.io/kubernetes/pkg/kubelet/pluginmanager"
)

// kubelet is one life of a kubelet.
type kubelet struct {
	*devicemanager.ManagerImpl
	ready        atomic.Bool
	cancel       context.CancelFunc
	stopped      chan struct{}
	resources    *grpc.Server
	resourcesAt  string
	resourcesEnd chan struct{}
}

// StartKubelet starts a kubelet, which admits the pods that it finds once more; it gives the reason of each that it refused.
func (n *Node) StartKubelet() map[string]error {
	n.t.Helper()
	if n.kubelet != nil {
		n.t.Fatal("the kubelet runs already")
	}
	k, err := n.newKubelet()
	if err != nil {
		n.t.Fatalf("the kubelet does not start: %v", err)
	}
	n.kubelet = k
	refused := make(map[string]error)
	for _, pod := range n.active() {
		if err := n.Admit(pod); err != nil {
			refused[pod.Name] = err
		}
	}
	k.ready.Store(true)
	return refused
}

func (n *Node) newKubelet() (*kubelet, error) {
	log := klog.Background()
	manager, err := devicemanager.NewManagerImpl(log, nil, topologymanager.NewFakeManager(log))
	if err != nil {
		return nil, err
	}
	k := &kubelet{ManagerImpl: manager, stopped: make(chan struct{}), resourcesAt: Root + "/pod-resources/kubelet.sock"}
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	sources := config.NewSourcesReady(func(sets.Set[string]) bool { return k.ready.Load() })
	known, running := n.containers()
	if err := manager.Start(log, n.active, sources, known, running); err != nil {
		return nil, err
	}
	watcher := pluginmanager.NewPluginManager(Root+"/plugins_registry", record.NewFakeRecorder(100))
	watcher.AddHandler(watcherapi.DevicePlugin, manager.GetWatcherHandler())
	go watcher.Run(ctx, sources, k.stopped)
	return k, k.serveResources(ctx, n)
}

// serveResources answers who holds which device, at the kubelet's own rate limit.
func (k *kubelet) serveResources(ctx context.Context, n *Node) error {
	_ = os.Remove(k.resourcesAt)
	if err := os.MkdirAll(Root+"/pod-resources", 0o755); err != nil {
		return err
	}
	socket, err := net.Listen("unix", k.resourcesAt)
	if err != nil {
		return err
	}
	k.resources = grpc.NewServer(limiter.WithRateLimiter(ctx, "podresources", podresources.DefaultQPS, podresources.DefaultBurstTokens))
	listapi.RegisterPodResourcesListerServer(k.resources, podresources.NewV1PodResourcesServer(ctx, providers(n, k)))
	k.resourcesEnd = make(chan struct{})
	go func() {
		defer close(k.resourcesEnd)
		_ = k.resources.Serve(socket) // until Stop
	}()
	return nil
}

func (k *kubelet) stop() {
	k.resources.Stop()
	<-k.resourcesEnd // it removes the socket, which may not happen to the next kubelet's
	close(k.stopped)
	k.cancel()
	_ = k.Stop(klog.Background())
}

// StopKubelet ends the kubelet in order: its socket goes.
func (n *Node) StopKubelet() {
	if n.kubelet != nil {
		n.kubelet.stop()
		n.kubelet = nil
	}
}

// KillKubelet ends the kubelet as a signal would: its socket stays, and nobody answers there.
func (n *Node) KillKubelet() {
	if n.kubelet == nil {
		return
	}
	kept := Root + "/kubelet.sock.kept"
	if err := os.Rename(Socket, kept); err != nil {
		n.t.Fatal(err)
	}
	n.StopKubelet()
	if err := os.Rename(kept, Socket); err != nil {
		n.t.Fatal(err)
	}
}

// RestartKubelet is a kubelet's end and its next life.
func (n *Node) RestartKubelet() map[string]error {
	n.t.Helper()
	n.StopKubelet()
	return n.StartKubelet()
}

// HangUp ends the kubelet's connection to a plugin, as a fault on the way would.
func (n *Node) HangUp(resource, socket string) {
	n.devices().GetWatcherHandler().DeRegisterPlugin(context.Background(), resource, socket)
}

func (n *Node) devices() *devicemanager.ManagerImpl {
	if n.kubelet == nil {
		n.t.Fatal("no kubelet runs")
	}
	return n.kubelet.ManagerImpl
}

// Updates tells of pods whose devices changed their health.
func (n *Node) Updates() <-chan []string {
	updates := make(chan []string, 100)
	from := n.devices().Updates()
	stopped := n.kubelet.stopped
	go func() {
		for {
			select {
			case u := <-from:
				updates <- u.PodUIDs
			case <-stopped:
				return
			}
		}
	}()
	return updates
}

// Health gives the state of a running pod's devices as its status shows it.
func (n *Node) Health(pod *v1.Pod) map[string]v1.ResourceHealthStatus {
	status := v1.PodStatus{}
	for _, c := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, v1.ContainerStatus{Name: c.Name})
	}
	n.devices().UpdateAllocatedResourcesStatus(klog.Background(), pod, &status)
	health := make(map[string]v1.ResourceHealthStatus)
	for _, c := range status.ContainerStatuses {
		for _, resource := range c.AllocatedResourcesStatus {
			for _, device := range resource.Resources {
				health[string(device.ResourceID)] = device.Health
			}
		}
	}
	return health
}
