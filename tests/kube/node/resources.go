package node

import (
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	listapi "k8s.io/kubelet/pkg/apis/podresources/v1"
	"k8s.io/kubernetes/pkg/kubelet/apis/podresources"
	"k8s.io/kubernetes/pkg/kubelet/cm/devicemanager"
)

// lister answers the pod-resources server: devices from the manager, pods from the node, and none of the rest.
type lister struct {
	*kubelet
	node *Node
}

func providers(n *Node, k *kubelet) podresources.PodResourcesProviders {
	l := lister{k, n}
	return podresources.PodResourcesProviders{Pods: l, Devices: l, Cpus: l, Memory: l, DynamicResources: l}
}

func (l lister) GetActivePods() []*v1.Pod { return l.node.active() }
func (l lister) GetPods() []*v1.Pod       { return l.node.active() }

func (l lister) GetPodByName(namespace, name string) (*v1.Pod, bool) {
	for _, pod := range l.node.active() {
		if pod.Namespace == namespace && pod.Name == name {
			return pod, true
		}
	}
	return nil, false
}

func (l lister) GetDevices(pod, container string) []*listapi.ContainerDevices {
	return listed(l.kubelet.GetDevices(pod, container))
}

func (l lister) GetAllocatableDevices(log klog.Logger) []*listapi.ContainerDevices {
	return listed(l.kubelet.GetAllocatableDevices(log))
}

func listed(devices devicemanager.ResourceDeviceInstances) []*listapi.ContainerDevices {
	var list []*listapi.ContainerDevices
	for resource, instances := range devices {
		for id := range instances {
			list = append(list, &listapi.ContainerDevices{ResourceName: resource, DeviceIds: []string{id}})
		}
	}
	return list
}

func (lister) GetCPUs(*v1.Pod, *v1.Container) []int64                      { return nil }
func (lister) GetPodCPUs(string) []int64                                   { return nil }
func (lister) GetAllocatableCPUs() []int64                                 { return nil }
func (lister) GetPodMemory(klog.Logger, string) []*listapi.ContainerMemory { return nil }
func (lister) GetAllocatableMemory(klog.Logger) []*listapi.ContainerMemory { return nil }
func (lister) GetMemory(klog.Logger, *v1.Pod, *v1.Container) []*listapi.ContainerMemory {
	return nil
}
func (lister) GetDynamicResources(klog.Logger, *v1.Pod, *v1.Container) []*listapi.DynamicResource {
	return nil
}

// Slots gives the ids of a resource that a container holds, as any client on the node can ask it.
func (n *Node) Slots(pod *v1.Pod, container, resource string) []string {
	n.t.Helper()
	var ids []string
	n.ask(func(ctx context.Context, client listapi.PodResourcesListerClient) error {
		answer, err := client.List(ctx, &listapi.ListPodResourcesRequest{})
		for _, p := range answer.GetPodResources() {
			for _, c := range p.GetContainers() {
				if p.Name == pod.Name && p.Namespace == pod.Namespace && c.Name == container {
					ids = append(ids, of(resource, c.Devices)...)
				}
			}
		}
		return err
	})
	slices.Sort(ids)
	return ids
}

// Listed gives the names of the pods in the listing.
func (n *Node) Listed() []string {
	n.t.Helper()
	names := make(map[string]bool)
	n.ask(func(ctx context.Context, client listapi.PodResourcesListerClient) error {
		answer, err := client.List(ctx, &listapi.ListPodResourcesRequest{})
		for _, p := range answer.GetPodResources() {
			names[p.Name] = true
		}
		return err
	})
	return slices.Sorted(maps.Keys(names))
}

// AllSlots gives the ids of all healthy devices of a resource.
func (n *Node) AllSlots(resource string) []string {
	n.t.Helper()
	var ids []string
	n.ask(func(ctx context.Context, client listapi.PodResourcesListerClient) error {
		answer, err := client.GetAllocatableResources(ctx, &listapi.AllocatableResourcesRequest{})
		ids = of(resource, answer.GetDevices())
		return err
	})
	slices.Sort(ids)
	return ids
}

func of(resource string, devices []*listapi.ContainerDevices) []string {
	var ids []string
	for _, d := range devices {
		if d.ResourceName == resource {
			ids = append(ids, d.DeviceIds...)
		}
	}
	return ids
}

func (n *Node) ask(question func(context.Context, listapi.PodResourcesListerClient) error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+n.kubelet.resourcesAt, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		n.t.Fatal(err)
	}
	defer conn.Close()
	if err := question(ctx, listapi.NewPodResourcesListerClient(conn)); err != nil {
		n.t.Fatalf("pod-resources: %v", err)
	}
}

// Held gives the ids of a resource that a container was given, by the device manager itself: a listing leaves out
// containers that have ended.
func (n *Node) Held(pod *v1.Pod, container, resource string) []string {
	return of(resource, listed(n.devices().GetDevices(string(pod.UID), container)))
}
