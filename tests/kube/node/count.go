package node

import (
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// Count is what a node says of a resource; -1 where it does not know it.
type Count struct{ Capacity, Allocatable int64 }

func (c Count) String() string {
	return fmt.Sprintf("capacity %d, allocatable %d", c.Capacity, c.Allocatable)
}

// Unknown is the count of a resource that nobody registered.
var Unknown = Count{-1, -1}

// Of counts one resource now.
func (n *Node) Of(resource string) Count {
	capacity, allocatable, _ := n.devices().GetCapacity(klog.Background())
	number := func(list v1.ResourceList) int64 {
		if q, ok := list[v1.ResourceName(resource)]; ok {
			return q.Value()
		}
		return -1
	}
	return Count{number(capacity), number(allocatable)}
}

// Await waits until the node counts so much of a resource. The device manager offers no event for it.
func (n *Node) Await(resource string, want Count) {
	n.t.Helper()
	n.Until(func() error {
		if got := n.Of(resource); got != want {
			return fmt.Errorf("%s: %v, not %v", resource, got, want)
		}
		return nil
	})
}

// Until waits until a look at the kubelet finds nothing amiss.
func (n *Node) Until(look func() error) {
	n.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(lookAgainIn) {
		err := look()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			n.t.Fatal(err)
		}
	}
}
