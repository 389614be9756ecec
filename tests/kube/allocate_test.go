package kube

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	"k8s.io/kubernetes/pkg/kubelet/cm/devicemanager"

	"takt.dev/takt/tests/kube/node"
)

// cdiDevices gives the full names of the devices that CDI files on this node describe.
func cdiDevices(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("/run/cdi/*.json")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		var spec struct {
			Kind    string
			Devices []struct{ Name string }
		}
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &spec)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, device := range spec.Devices {
			names = append(names, spec.Kind+"="+device.Name)
		}
	}
	return names
}

// lives gives the container what its runtime needs: CDI devices that are described, or mounts that are there.
func lives(t *testing.T, options *devicemanager.DeviceRunContainerOptions) {
	t.Helper()
	if len(options.CDIDevices)+len(options.Mounts) == 0 {
		t.Fatal("the container is given neither CDI devices nor mounts")
	}
	described := cdiDevices(t)
	for _, device := range options.CDIDevices {
		if !slices.Contains(described, device.Name) {
			t.Errorf("no CDI file describes %s; they describe %v", device.Name, described)
		}
	}
	for _, mount := range options.Mounts {
		if _, err := os.Stat(mount.HostPath); err != nil {
			t.Errorf("mount: %v", err)
		}
	}
}

func TestContainerIsGivenWhatItsRuntimeKnows(t *testing.T) {
	for door, with := range map[string]settings{"as it comes": {}, "CDI": {takt: "takt:\n  cdi: /run/cdi\n"}} {
		t.Run(door, func(t *testing.T) {
			n, _ := servedWith(t, with)
			pod := node.Pod(resource, 1)
			admit(t, n, pod)
			options, err := n.Run(pod, node.Work)
			if err != nil {
				t.Fatal(err)
			}
			lives(t, options)
			if door == "CDI" && len(options.CDIDevices) != 1 {
				t.Errorf("CDI devices: %v", options.CDIDevices)
			}
		})
	}
}

// The environment and mounts of slots on one container do not contradict one another.
func TestPodWithTwoSlots(t *testing.T) {
	n, _ := served(t)
	pod := node.Pod(resource, 2)
	admit(t, n, pod)
	options, err := n.Run(pod, node.Work)
	if err != nil {
		t.Fatal(err)
	}
	lives(t, options)
	if slots := n.Slots(pod, node.Work, resource); len(slots) != 2 || slots[0] == slots[1] {
		t.Fatalf("it holds %v", slots)
	}
}

// client speaks to the daemon as another kubelet would.
func client(t *testing.T) (context.Context, pluginapi.DevicePluginClient) {
	t.Helper()
	names := sockets(t)
	if len(names) != 1 {
		t.Fatalf("sockets %v: not one", names)
	}
	conn, err := grpc.NewClient("unix://"+filepath.Join(node.Plugins, names[0]),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(func() {
		cancel()
		_ = conn.Close()
	})
	return ctx, pluginapi.NewDevicePluginClient(conn)
}

func want(slots ...string) *pluginapi.AllocateRequest {
	return &pluginapi.AllocateRequest{ContainerRequests: []*pluginapi.ContainerAllocateRequest{{DevicesIds: slots}}}
}

// A slot asked for twice is answered the same, or refused with a reason; the daemon lives on.
func TestSlotAskedForTwice(t *testing.T) {
	n, _ := served(t)
	ctx, daemon := client(t)
	slot := n.AllSlots(resource)[0]
	first, err := daemon.Allocate(ctx, want(slot))
	if err != nil {
		t.Fatal(err)
	}
	again, err := daemon.Allocate(ctx, want(slot))
	if err == nil && first.String() != again.String() {
		t.Errorf("%v, then %v", first, again)
	}
	if err != nil && !strings.Contains(err.Error(), slot) {
		t.Errorf("the reason does not name the slot: %v", err)
	}
	if _, err := daemon.Allocate(ctx, want(slot, slot)); err != nil && !strings.Contains(err.Error(), slot) {
		t.Errorf("the reason does not name the slot: %v", err)
	}
	running(t, n)
}

func TestSlotThatNobodyOffersIsRefusedByName(t *testing.T) {
	n, _ := served(t)
	ctx, daemon := client(t)
	for _, slot := range []string{"", "no-such-slot", gpuA, strings.Repeat("x", 100_000)} {
		_, err := daemon.Allocate(ctx, want(slot))
		if code := status.Code(err); code == codes.OK || code == codes.Unavailable || code == codes.DeadlineExceeded {
			t.Errorf("%.20q: %v", slot, err)
		} else if len(slot) < 100 && !strings.Contains(err.Error(), slot) {
			t.Errorf("the reason does not name %q: %v", slot, err)
		}
	}
	running(t, n)
}

func TestMethodThatNobodyOffers(t *testing.T) {
	n, _ := served(t)
	ctx, _ := client(t)
	conn, err := grpc.NewClient("unix://"+filepath.Join(node.Plugins, sockets(t)[0]),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = conn.Invoke(ctx, "/v1beta1.DevicePlugin/Nothing", &pluginapi.Empty{}, &pluginapi.Empty{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("%v", err)
	}
	running(t, n)
}
