package telemetry

import (
	"context"
	"database/sql"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"granary/internal/task"
)

// A MetricsConfig says what there is to measure, besides requests and the Go runtime.
type MetricsConfig struct {
	Version string
	Tasks   func(ctx context.Context) (task.Stats, error) // the queue's state; nil: none
	DB      func() sql.DBStats                            // the database's connections; nil: none
}

// Metrics are the figures of one process, for Prometheus.
type Metrics struct {
	registry *prometheus.Registry
	duration *prometheus.HistogramVec
	sent     *prometheus.CounterVec
	running  *prometheus.GaugeVec
}

// NewMetrics returns the metrics of this process.
func NewMetrics(c MetricsConfig) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "granary_http_request_duration_seconds", Help: "How long requests took, and how many there were.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, []string{"role", "status"}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "granary_http_response_bytes_total", Help: "Bytes of the bodies of answers.",
		}, []string{"role"}),
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "granary_http_requests_running", Help: "Requests that are being answered.",
		}, []string{"role"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "granary_info", Help: "Always 1; the version is in the label.", ConstLabels: prometheus.Labels{"version": c.Version},
	})
	build.Set(1)
	m.registry.MustRegister(m.duration, m.sent, m.running, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if c.Tasks != nil {
		m.registry.MustRegister(queueCollector(c.Tasks))
	}
	if c.DB != nil {
		m.registry.MustRegister(poolCollector(c.DB))
	}
	return m
}

// Register adds metrics that others keep. It fails where they are there already.
func (m *Metrics) Register(c prometheus.Collector) error { return m.registry.Register(c) }

// Handler serves the metrics, at "/metrics" by custom.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4})
}

// roleMetrics are the metrics of one role, looked up once. A nil one counts nothing.
type roleMetrics struct {
	duration [6]prometheus.Observer // by the status's first digit
	sent     prometheus.Counter
	running  prometheus.Gauge
}

func (m *Metrics) role(name string) *roleMetrics {
	r := &roleMetrics{sent: m.sent.WithLabelValues(name), running: m.running.WithLabelValues(name)}
	for i, class := range []string{"other", "1xx", "2xx", "3xx", "4xx", "5xx"} {
		r.duration[i] = m.duration.WithLabelValues(name, class)
	}
	return r
}

func (r *roleMetrics) begin() {
	if r != nil {
		r.running.Inc()
	}
}

func (r *roleMetrics) end(rec *recorder, took time.Duration) {
	if r == nil {
		return
	}
	r.running.Dec()
	r.sent.Add(float64(rec.bytes))
	class := rec.status / 100
	if class < 1 || class > 5 {
		class = 0
	}
	r.duration[class].Observe(took.Seconds())
}

// A figure is a gauge whose value is asked for.
type figure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func newFigure(name, help string, kind prometheus.ValueType) figure {
	return figure{prometheus.NewDesc(name, help, nil, nil), kind}
}

// A collector asks for several figures at once.
type collector struct {
	figures []figure
	values  func() ([]float64, error)
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range c.figures {
		ch <- f.desc
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	values, err := c.values()
	for i, f := range c.figures {
		if err != nil {
			ch <- prometheus.NewInvalidMetric(f.desc, err)
			continue
		}
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, values[i])
	}
}

const collectTimeout = 5 * time.Second

func queueCollector(stats func(ctx context.Context) (task.Stats, error)) prometheus.Collector {
	return &collector{
		figures: []figure{
			newFigure("granary_tasks_unblocked_queue", "Tasks that have been ready for more than 5 s and do not run.", prometheus.GaugeValue),
			newFigure("granary_tasks_longest_unblocked_seconds", "For how long the first of these has been ready.", prometheus.GaugeValue),
		},
		values: func() ([]float64, error) {
			ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
			defer cancel()
			s, err := stats(ctx)
			return []float64{float64(s.Unblocked), s.Longest.Seconds()}, err
		},
	}
}

func poolCollector(stats func() sql.DBStats) prometheus.Collector {
	return &collector{
		figures: []figure{
			newFigure("granary_db_connections_open", "Open connections to the database.", prometheus.GaugeValue),
			newFigure("granary_db_connections_in_use", "Connections that are in use.", prometheus.GaugeValue),
			newFigure("granary_db_connections_max", "The most connections that may be open.", prometheus.GaugeValue),
			newFigure("granary_db_waits_total", "How often a connection was waited for.", prometheus.CounterValue),
			newFigure("granary_db_wait_seconds_total", "How long connections were waited for.", prometheus.CounterValue),
		},
		values: func() ([]float64, error) {
			s := stats()
			return []float64{float64(s.OpenConnections), float64(s.InUse), float64(s.MaxOpenConnections), float64(s.WaitCount), s.WaitDuration.Seconds()}, nil
		},
	}
}
