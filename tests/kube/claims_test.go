package kube

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/kubernetes/fake"
	resourceclient "k8s.io/client-go/kubernetes/typed/resource/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	watcherapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"k8s.io/kubernetes/pkg/kubelet/cm/dra"
	"k8s.io/kubernetes/pkg/kubelet/config"
	"k8s.io/kubernetes/pkg/kubelet/pluginmanager"

	"takt.dev/takt/tests/kube/node"
)

const (
	driver     = "gpu.takt.dev"
	nodeName   = "n1"
	claimedGPU = "gpu-bbbbbbbb-0000-4000-8000-000000000002"
	cdiFolder  = "/run/cdi"
)

// uids numbers pods, each of which has one claim of the same UID.
var uids atomic.Int64

// control is a control plane: client-go's own fake one for the kubelet, and the same by HTTPS for the daemon.
type control struct {
	t      testing.TB
	client *fake.Clientset
	server *httptest.Server
	node   *v1.Node
	mu     sync.Mutex
	serial int
	pods   []*v1.Pod
}

func newControl(t testing.TB) *control {
	c := &control{t: t, node: &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName, UID: "node-uid"}}}
	c.client = fake.NewClientset(c.node)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/nodes/{name}", func(w http.ResponseWriter, _ *http.Request) { answer(w, c.node, nil) })
	const group = "/apis/resource.k8s.io/v1/"
	mux.HandleFunc("GET "+group+"namespaces/{namespace}/resourceclaims/{name}", func(w http.ResponseWriter, r *http.Request) {
		claim, err := c.client.ResourceV1().ResourceClaims(r.PathValue("namespace")).Get(r.Context(), r.PathValue("name"), metav1.GetOptions{})
		answer(w, claim, err)
	})
	mux.HandleFunc("GET "+group+"resourceslices/{name}", func(w http.ResponseWriter, r *http.Request) {
		slice, err := c.slices().Get(r.Context(), r.PathValue("name"), metav1.GetOptions{})
		answer(w, slice, err)
	})
	mux.HandleFunc("POST "+group+"resourceslices", func(w http.ResponseWriter, r *http.Request) {
		slice, err := c.slices().Create(r.Context(), c.sliceOf(r), metav1.CreateOptions{})
		answer(w, slice, err)
	})
	mux.HandleFunc("PUT "+group+"resourceslices/{name}", func(w http.ResponseWriter, r *http.Request) {
		slice, err := c.slices().Update(r.Context(), c.sliceOf(r), metav1.UpdateOptions{})
		answer(w, slice, err)
	})
	mux.HandleFunc("GET "+group+"resourceslices", c.listOrWatch)
	c.server = httptest.NewTLSServer(mux)
	t.Cleanup(func() {
		c.server.CloseClientConnections()
		c.server.Close()
	})
	return c
}

func (c *control) slices() resourceclient.ResourceSliceInterface {
	return c.client.ResourceV1().ResourceSlices()
}

// sliceOf reads what the daemon sends; each is a new object, as its UID says.
func (c *control) sliceOf(r *http.Request) *resourceapi.ResourceSlice {
	slice := new(resourceapi.ResourceSlice)
	if err := json.NewDecoder(r.Body).Decode(slice); err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serial++
	slice.UID = types.UID(fmt.Sprint("slice-", c.serial))
	slice.ResourceVersion = fmt.Sprint(c.serial)
	return slice
}

func (c *control) listOrWatch(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("watch") == "" {
		list, err := c.slices().List(r.Context(), metav1.ListOptions{})
		list.ResourceVersion = "1"
		answer(w, list, err)
		return
	}
	watch, err := c.slices().Watch(r.Context(), metav1.ListOptions{})
	if err != nil {
		answer(w, nil, err)
		return
	}
	defer watch.Stop()
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case event := <-watch.ResultChan():
			_ = json.NewEncoder(w).Encode(map[string]any{"type": event.Type, "object": event.Object})
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func answer(w http.ResponseWriter, object any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		w.WriteHeader(int(status.Status().Code))
		object = status.Status()
	}
	_ = json.NewEncoder(w).Encode(object)
}

// controlled gives the configuration's lines that name the node and an API server.
func controlled(t testing.TB, server *httptest.Server) string {
	t.Helper()
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca"), filepath.Join(dir, "token")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := errors.Join(os.WriteFile(ca, text, 0o600), os.WriteFile(token, []byte("sesame"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("  node: %s\n  api: {server: \"%s\", ca: %s, token: %s}\n", nodeName, server.URL, ca, token)
}

// settings make a daemon whose second GPU is claimed, while the first one has slots.
func (c *control) settings() settings {
	c.t.Helper()
	return settings{
		slot: fmt.Sprintf("      devices: [%s]\n", gpuA),
		takt: fmt.Sprintf("takt:\n  door: {dra: [%s]}\n  annotations: false\n", gpuB) + controlled(c.t, c.server),
	}
}

func (c *control) active() []*v1.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.pods)
}

// manager is a kubelet's part for claims, from one life to the next in `state`.
func (c *control) manager(n *node.Node, state string) (*dra.Manager, context.CancelFunc) {
	c.t.Helper()
	m, err := dra.NewManager(klog.Background(), c.client, state)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	sources := config.NewSourcesReady(func(sets.Set[string]) bool { return true })
	getNode := func(context.Context) (*v1.Node, error) { return c.node, nil }
	if err := m.Start(ctx, c.active, getNode, sources); err != nil {
		c.t.Fatal(err)
	}
	watcher := pluginmanager.NewPluginManager(node.Root+"/plugins_registry", record.NewFakeRecorder(100))
	watcher.AddHandler(watcherapi.DRAPlugin, m.GetWatcherHandler())
	stopped := make(chan struct{})
	go watcher.Run(ctx, sources, stopped)
	stop := sync.OnceFunc(func() {
		close(stopped)
		cancel()
		m.Stop()
	})
	c.t.Cleanup(stop)
	return m, stop
}

// published waits for the daemon's slice, which is another than `but`.
func (c *control) published(n *node.Node, but types.UID) *resourceapi.ResourceSlice {
	c.t.Helper()
	var found *resourceapi.ResourceSlice
	n.Until(func() error {
		list, err := c.slices().List(context.Background(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 1 || list.Items[0].UID == but {
			return fmt.Errorf("%d slices, %v: not one that is new", len(list.Items), err)
		}
		found = &list.Items[0]
		return nil
	})
	return found
}

// claim is one of `share` percent, allocated and reserved for a pod that has it.
func (c *control) claim(name, share, parameters string) *v1.Pod {
	c.t.Helper()
	pod := node.Pod(resource, 0)
	pod.UID = types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012x", uids.Add(1)))
	pod.Spec.ResourceClaims = []v1.PodResourceClaim{{Name: "part", ResourceClaimName: &name}}
	pod.Spec.Containers[0].Resources.Claims = []v1.ResourceClaim{{Name: "part"}}
	id := types.UID("a281f970-1fa5-4dc3-a127-4451790225a2")
	claim := &resourceapi.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: pod.Namespace, UID: pod.UID},
		Spec:       resourceapi.ResourceClaimSpec{Devices: resourceapi.DeviceClaim{Requests: []resourceapi.DeviceRequest{{Name: "gpu"}}}},
		Status: resourceapi.ResourceClaimStatus{
			ReservedFor: []resourceapi.ResourceClaimConsumerReference{{Resource: "pods", Name: pod.Name, UID: pod.UID}},
			Allocation: &resourceapi.AllocationResult{Devices: resourceapi.DeviceAllocationResult{
				Results: []resourceapi.DeviceRequestAllocationResult{{
					Request: "gpu", Driver: driver, Pool: nodeName, Device: claimedGPU, ShareID: &id,
					ConsumedCapacity: map[resourceapi.QualifiedName]quantity.Quantity{
						"takt.dev/share": quantity.MustParse(share), "memory": quantity.MustParse("8Gi"),
					},
				}},
			}},
		},
	}
	if parameters != "" {
		config := resourceapi.DeviceAllocationConfiguration{Source: resourceapi.AllocationConfigSourceClaim}
		config.Opaque = &resourceapi.OpaqueDeviceConfiguration{Driver: driver}
		config.Opaque.Parameters.Raw = []byte(`{"apiVersion": "gpu.takt.dev/v1", "kind": "Promise"` + parameters + `}`)
		claim.Status.Allocation.Devices.Config = []resourceapi.DeviceAllocationConfiguration{config}
	}
	if _, err := c.client.ResourceV1().ResourceClaims(pod.Namespace).Create(context.Background(), claim, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pods = append(c.pods, pod)
	return pod
}

func cdiFile(pod *v1.Pod) string { return fmt.Sprintf("%s/%s-%s.json", cdiFolder, driver, pod.UID) }

func prepared(t *testing.T, m *dra.Manager, pod *v1.Pod) {
	t.Helper()
	if err := m.PrepareResources(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	info, err := m.GetResources(pod, &pod.Spec.Containers[0])
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("takt.dev/claim=%s-0", pod.UID); len(info.CDIDevices) != 1 || info.CDIDevices[0].Name != want {
		t.Fatalf("CDI devices %v, not %s", info.CDIDevices, want)
	}
	if _, err := os.Stat(cdiFile(pod)); err != nil {
		t.Fatal(err)
	}
}

// claimed is the usual beginning: a kubelet, a daemon, and its slice there.
func claimed(t *testing.T) (*node.Node, *control, *daemon, *dra.Manager, func() *dra.Manager) {
	t.Helper()
	if named() == "" {
		t.Skip("the reference plugin knows no claims")
	}
	n, c, state := node.New(t), newControl(t), t.TempDir()
	n.StartKubelet()
	m, stop := c.manager(n, state)
	d := startDaemon(t, c.settings())
	c.published(n, "")
	return n, c, d, m, func() *dra.Manager {
		stop()
		m, stop = c.manager(n, state)
		return m
	}
}

func TestClaimIsPreparedAndUnprepared(t *testing.T) {
	n, c, _, m, _ := claimed(t)
	n.Await(resource, node.Count{Capacity: perGPU, Allocatable: perGPU}) // the other GPU's slots
	pod := c.claim("a", "40", `, "ttft": "2s", "itl": "200ms"`)
	prepared(t, m, pod)
	prepared(t, m, pod)
	if err := m.UnprepareResources(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cdiFile(pod)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("its CDI file: %v", err)
	}
}

func TestClaimThatDoesNotFitIsRefusedWithTheNumbers(t *testing.T) {
	_, c, _, m, _ := claimed(t)
	promise := `, "ttft": "2s", "itl": "200ms"`
	prepared(t, m, c.claim("a", "60", promise))
	err := m.PrepareResources(context.Background(), c.claim("b", "60", promise))
	if err == nil || !strings.Contains(err.Error(), "ms of device time would be due") {
		t.Fatalf("refused with: %v", err)
	}
}

func TestClaimAndSliceOutliveTheKubelet(t *testing.T) {
	n, c, _, m, restart := claimed(t)
	pod := c.claim("a", "40", "")
	prepared(t, m, pod)
	before := c.published(n, "")
	m = restart()
	// It asks for the deletion of its node's slices, by a selector that the fake control plane does not know.
	if err := c.slices().Delete(context.Background(), before.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	after := c.published(n, before.UID)
	if after.Spec.Pool.Generation <= before.Spec.Pool.Generation {
		t.Fatalf("generation %d after %d", after.Spec.Pool.Generation, before.Spec.Pool.Generation)
	}
	prepared(t, m, pod)
	prepared(t, m, c.claim("b", "40", ""))
}

func TestClaimOutlivesTheDaemon(t *testing.T) {
	n, c, d, m, _ := claimed(t)
	pod := c.claim("a", "60", "")
	prepared(t, m, pod)
	for i, end := range []func(){d.kill, d.stop} {
		end()
		d.start()
		next := c.claim(fmt.Sprint("next-", i), "10", "")
		// The kubelet has found the new one when it can ask it.
		n.Until(func() error { return m.PrepareResources(context.Background(), next) })
		prepared(t, m, pod)
	}
	if err := m.UnprepareResources(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cdiFile(pod)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("its CDI file: %v", err)
	}
}

func TestLostGPUShowsInTheStatusOfWhoClaimsIt(t *testing.T) {
	n, c, d, m, _ := claimed(t)
	pod := c.claim("a", "40", "")
	prepared(t, m, pod)
	for _, step := range []struct {
		change func(string)
		want   v1.ResourceHealthStatus
	}{{func(string) {}, v1.ResourceHealthStatusHealthy}, {d.lose, v1.ResourceHealthStatusUnhealthy}, {d.find, v1.ResourceHealthStatusHealthy}} {
		step.change(gpuB)
		n.Until(func() error {
			status := v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{{Name: pod.Spec.Containers[0].Name}}}
			m.UpdateAllocatedResourcesStatus(klog.Background(), pod, &status)
			for _, s := range status.ContainerStatuses[0].AllocatedResourcesStatus {
				if len(s.Resources) == 1 && s.Resources[0].Health == step.want {
					return nil
				}
			}
			return fmt.Errorf("the status is %v, not %s", status.ContainerStatuses[0].AllocatedResourcesStatus, step.want)
		})
	}
}
