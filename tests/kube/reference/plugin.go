package reference

import (
	"cmp"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const cdiFile = "/run/cdi/takt.json"

// plugin answers the kubelet.
type plugin struct {
	pluginapi.UnimplementedDevicePluginServer
	dir      string
	resource string
	packed   bool
	gpus     []string
	slots    []string

	mu      sync.Mutex
	lost    map[string]bool
	changed chan struct{} // closed when something is lost or found
}

func gpuOf(slot string) string {
	gpu, _, _ := strings.Cut(slot, "::")
	return gpu
}

// setLost takes the names of the GPUs that are lost now.
func (p *plugin) setLost(gpus []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.lost)
	for _, gpu := range gpus {
		p.lost[gpu] = true
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// devices gives the list as it is, and what is closed when it no longer is.
func (p *plugin) devices() (*pluginapi.ListAndWatchResponse, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := &pluginapi.ListAndWatchResponse{}
	for _, slot := range p.slots {
		health := pluginapi.Healthy
		if p.lost[gpuOf(slot)] {
			health = pluginapi.Unhealthy
		}
		list.Devices = append(list.Devices, &pluginapi.Device{ID: slot, Health: health})
	}
	return list, p.changed
}

func (p *plugin) options() *pluginapi.DevicePluginOptions {
	return &pluginapi.DevicePluginOptions{GetPreferredAllocationAvailable: true, PreStartRequired: true}
}

func (p *plugin) GetDevicePluginOptions(context.Context, *pluginapi.Empty) (*pluginapi.DevicePluginOptions, error) {
	return p.options(), nil
}

func (p *plugin) ListAndWatch(_ *pluginapi.Empty, stream grpc.ServerStreamingServer[pluginapi.ListAndWatchResponse]) error {
	for {
		list, changed := p.devices()
		if err := stream.Send(list); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func (p *plugin) known(slots []string) error {
	for _, slot := range slots {
		if !slices.Contains(p.slots, slot) {
			return status.Errorf(codes.InvalidArgument, "no slot %s of %s", slot, p.resource)
		}
	}
	return nil
}

func (p *plugin) Allocate(_ context.Context, request *pluginapi.AllocateRequest) (*pluginapi.AllocateResponse, error) {
	answer := &pluginapi.AllocateResponse{}
	for _, c := range request.ContainerRequests {
		if err := p.known(c.DevicesIds); err != nil {
			return nil, err
		}
		one := &pluginapi.ContainerAllocateResponse{Envs: map[string]string{"TAKT_SLOT": strings.Join(c.DevicesIds, ",")}}
		for _, slot := range c.DevicesIds {
			one.CdiDevices = append(one.CdiDevices, &pluginapi.CDIDevice{Name: "takt.dev/gpu=" + cdiName(slot)})
		}
		answer.ContainerResponses = append(answer.ContainerResponses, one)
	}
	return answer, nil
}

func (p *plugin) PreStartContainer(_ context.Context, request *pluginapi.PreStartContainerRequest) (*pluginapi.PreStartContainerResponse, error) {
	return &pluginapi.PreStartContainerResponse{}, p.known(request.DevicesIds)
}

// GetPreferredAllocation steers to the GPU with the fewest slots taken, or with the most where slots are packed, and
// keeps one container's slots together.
func (p *plugin) GetPreferredAllocation(_ context.Context, request *pluginapi.PreferredAllocationRequest) (*pluginapi.PreferredAllocationResponse, error) {
	answer := &pluginapi.PreferredAllocationResponse{}
	for _, c := range request.ContainerRequests {
		chosen := slices.Clone(c.MustIncludeDeviceIDs)
		for len(chosen) < int(c.AllocationSize) {
			left := slices.DeleteFunc(slices.Clone(c.AvailableDeviceIDs), func(slot string) bool { return slices.Contains(chosen, slot) })
			if len(left) == 0 {
				break
			}
			beside := slices.DeleteFunc(slices.Clone(left), func(slot string) bool {
				return len(chosen) > 0 && gpuOf(slot) != gpuOf(chosen[0])
			})
			if len(beside) > 0 {
				left = beside
			}
			chosen = append(chosen, p.best(left))
		}
		answer.ContainerResponses = append(answer.ContainerResponses, &pluginapi.ContainerPreferredAllocationResponse{DeviceIDs: chosen})
	}
	return answer, nil
}

func (p *plugin) best(slots []string) string {
	free := make(map[string]int)
	for _, slot := range slots {
		free[gpuOf(slot)]++
	}
	return slices.MinFunc(slots, func(a, b string) int {
		order := cmp.Compare(free[gpuOf(b)], free[gpuOf(a)])
		if p.packed {
			order = -order
		}
		return cmp.Or(order, cmp.Compare(a, b))
	})
}

func cdiName(slot string) string { return strings.ReplaceAll(slot, "::", "-") }

// writeCDI says what a runtime adds to a container for each slot.
func (p *plugin) writeCDI() error {
	type edits struct {
		Env []string `json:"env"`
	}
	type device struct {
		Name           string `json:"name"`
		ContainerEdits edits  `json:"containerEdits"`
	}
	spec := struct {
		CDIVersion string   `json:"cdiVersion"`
		Kind       string   `json:"kind"`
		Devices    []device `json:"devices"`
	}{CDIVersion: "0.6.0", Kind: "takt.dev/gpu"}
	for _, slot := range p.slots {
		spec.Devices = append(spec.Devices, device{cdiName(slot), edits{[]string{"TAKT_GPU=" + gpuOf(slot)}}})
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	if err := os.MkdirAll("/run/cdi", 0o755); err != nil {
		return err
	}
	return os.WriteFile(cdiFile, text, 0o644)
}
