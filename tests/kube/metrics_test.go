package kube

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// scrape gives what the daemon answers to Prometheus, as text.
func scrape(t *testing.T, socket string) io.ReadCloser {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	answer, err := client.Get("http://taktd/metrics")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	return answer.Body
}

func families(t *testing.T, socket string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	found, err := parser.TextToMetricFamilies(scrape(t, socket))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// labels gives a metric's labels as a map.
func labels(m *dto.Metric) map[string]string {
	all := map[string]string{}
	for _, l := range m.Label {
		all[l.GetName()] = l.GetValue()
	}
	return all
}

// What promtool check metrics does: Prometheus' own parser and its linter, on what the daemon says while a pod runs.
func TestMetricsAreAsPrometheusWantsThem(t *testing.T) {
	if named() == "" {
		t.Skip("the reference plugin has no metrics")
	}
	n, d := servedWith(t, settings{takt: "takt: {metrics: $DIR/metrics}\n"})
	socket := filepath.Join(d.dir, "metrics")
	pod, slot := running(t, n)
	problems, err := promlint.New(scrape(t, socket)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	shares := families(t, socket)["takt_share_ratio"].GetMetric()
	if len(shares) != 1 || labels(shares[0])["gpu"] != gpuOf(t, slot) {
		t.Fatalf("%s with %s is counted as %v", pod.Name, slot, shares)
	}
}

func TestLostGPUIsCountedAsLost(t *testing.T) {
	if named() == "" {
		t.Skip("the reference plugin has no metrics")
	}
	n, d := servedWith(t, settings{takt: "takt: {metrics: $DIR/metrics}\n"})
	socket := filepath.Join(d.dir, "metrics")
	d.lose(gpuB)
	n.Await(resource, half)
	for _, m := range families(t, socket)["takt_device_healthy"].GetMetric() {
		if healthy := m.GetGauge().GetValue() == 1; healthy != (labels(m)["gpu"] == gpuA) {
			t.Errorf("%v: healthy is %v", labels(m), healthy)
		}
	}
}
