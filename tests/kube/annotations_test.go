package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"takt.dev/takt/tests/kube/node"
)

// podServer is an API server's pods, by HTTPS: a list, a watch, and the events that are written of them.
type podServer struct {
	t       testing.TB
	server  *httptest.Server
	events  chan *v1.Event
	watched chan struct{} // a stream was opened
	mu      sync.Mutex
	news    chan struct{} // closed at the next change
	changes []map[string]any
}

func newPodServer(t testing.TB) *podServer {
	s := &podServer{t: t, events: make(chan *v1.Event, 100), watched: make(chan struct{}, 100), news: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/pods", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") != "" {
			s.watch(w, r)
			return
		}
		answer(w, v1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "0"}, Items: []v1.Pod{}}, nil)
	})
	mux.HandleFunc("POST /api/v1/namespaces/{namespace}/events", func(w http.ResponseWriter, r *http.Request) {
		event := new(v1.Event)
		if err := json.NewDecoder(r.Body).Decode(event); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusCreated)
		s.events <- event
	})
	s.server = httptest.NewTLSServer(mux)
	t.Cleanup(func() {
		s.server.CloseClientConnections()
		s.server.Close()
	})
	return s
}

// watch tells of every change from the first one on: the list has none.
func (s *podServer) watch(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	s.watched <- struct{}{}
	for told := 0; ; {
		s.mu.Lock()
		changes, news := s.changes[told:], s.news
		s.mu.Unlock()
		for _, change := range changes {
			_ = json.NewEncoder(w).Encode(change)
			_ = http.NewResponseController(w).Flush()
		}
		told += len(changes)
		select {
		case <-r.Context().Done():
			return
		case <-news:
		}
	}
}

func (s *podServer) tell(kind watch.EventType, pod *v1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pod.ResourceVersion = fmt.Sprint(len(s.changes) + 1)
	s.changes = append(s.changes, map[string]any{"type": kind, "object": pod.DeepCopy()})
	close(s.news)
	s.news = make(chan struct{})
}

// said waits for an event of a pod, which has to have all the words.
func (s *podServer) said(n *node.Node, pod *v1.Pod, reason string, words ...string) {
	s.t.Helper()
	n.Until(func() error {
		select {
		case event := <-s.events:
			if event.InvolvedObject.UID != pod.UID || event.Reason != reason {
				s.t.Fatalf("%s of %s: %s", event.Reason, event.InvolvedObject.Name, event.Message)
			}
			for _, word := range words {
				if !strings.Contains(event.Message, word) {
					s.t.Fatalf("%q does not say %q", event.Message, word)
				}
			}
			return nil
		default:
			return errors.New("no event")
		}
	})
}

func (s *podServer) settings() settings {
	s.t.Helper()
	return settings{
		slot: "      takt: {ttft: 2s, itl: 200ms, share: 20%, memory: 4Gi}\n",
		takt: "takt:\n  metrics: $DIR/metrics\n" + controlled(s.t, s.server),
	}
}

// quota gives the memory that is promised to a pod, as the daemon tells Prometheus; 0: to none of this name.
func quota(t *testing.T, d *daemon, pod *v1.Pod) float64 {
	t.Helper()
	for _, m := range families(t, filepath.Join(d.dir, "metrics"))["takt_memory_quota_bytes"].GetMetric() {
		if labels(m)["pod"] == pod.Name && labels(m)["namespace"] == pod.Namespace {
			return m.GetGauge().GetValue()
		}
	}
	return 0
}

func TestAnnotationsBecomeThePodsPromise(t *testing.T) {
	if named() == "" {
		t.Skip("the reference plugin reads no annotations")
	}
	n, s := node.New(t), newPodServer(t)
	n.StartKubelet()
	d := startDaemon(t, s.settings())
	n.Await(resource, all)
	<-s.watched
	pod := node.Pod(resource, 1)
	pod.UID = types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012x", uids.Add(1)))
	pod.Annotations = map[string]string{"takt.dev/share": "60%", "takt.dev/memory": "12Gi"}
	s.tell(watch.Added, pod)
	admit(t, n, pod)
	run(t, n, pod, node.Work)
	s.said(n, pod, "Promised", "share 60 %", "memory 12 GiB")
	if got := quota(t, d, pod); got != 12<<30 {
		t.Fatalf("promised: %g bytes", got)
	}
	pod.Annotations["takt.dev/memory"] = "2Gi"
	s.tell(watch.Modified, pod)
	s.said(n, pod, "PromiseChanged", "memory 2 GiB")
	if got := quota(t, d, pod); got != 2<<30 {
		t.Fatalf("promised after the change: %g bytes", got)
	}
	pod.Annotations["takt.dev/memory"] = "lots"
	s.tell(watch.Modified, pod)
	s.said(n, pod, "InvalidAnnotation", "takt.dev/memory", "lots")
}
