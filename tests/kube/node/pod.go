package node

import (
	"fmt"
	"sync/atomic"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var pods atomic.Int64

// Work is the name of the one container of `Pod`.
const Work = "work"

// Pod gives a pod of one container that wants so many devices.
func Pod(device string, number int64) *v1.Pod {
	name := fmt.Sprintf("pod-%d", pods.Add(1))
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-of-" + name)},
		Spec:       v1.PodSpec{Containers: []v1.Container{Container(Work, device, number)}},
	}
}

// Container gives a container that wants so many devices.
func Container(name, device string, number int64) v1.Container {
	list := v1.ResourceList{v1.ResourceName(device): *resource.NewQuantity(number, resource.DecimalSI)}
	return v1.Container{Name: name, Resources: v1.ResourceRequirements{Limits: list, Requests: list}}
}
