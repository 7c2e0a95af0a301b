// Package worker runs a Go page: it reads the environment that TQServer gives, listens on TQ_SOCKET or PORT, says
// when it is ready, answers /health if the page does not, and finishes what is in flight when it is told to stop.
//
//	func main() {
//		runtime := worker.NewRuntime()
//		http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello") })
//		log.Fatal(runtime.StartServer(nil))
//	}
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// shutdownLimit bounds the wait for requests in flight; the supervisor kills what takes longer.
const shutdownLimit = 30 * time.Second

// Runtime is what the environment says about this worker.
type Runtime struct {
	Port         string // PORT: where to listen on 127.0.0.1 if Socket is empty
	Route        string // ROUTE: the URL that the page answers
	Socket       string // TQ_SOCKET: the unix socket to listen on
	Page         string // TQ_PAGE
	Revision     string // TQ_REVISION
	Mode         string // TQ_MODE: "dev" or "prod"
	ReadTimeout  time.Duration
	WriteTimeout time.Duration
	IdleTimeout  time.Duration
}

// NewRuntime reads the environment.
func NewRuntime() *Runtime {
	return &Runtime{
		Port:         fallback(os.Getenv("PORT"), "9000"),
		Route:        fallback(os.Getenv("ROUTE"), "/"),
		Socket:       os.Getenv("TQ_SOCKET"),
		Page:         os.Getenv("TQ_PAGE"),
		Revision:     os.Getenv("TQ_REVISION"),
		Mode:         fallback(os.Getenv("TQ_MODE"), "dev"),
		ReadTimeout:  seconds("READ_TIMEOUT_SECONDS", 30),
		WriteTimeout: seconds("WRITE_TIMEOUT_SECONDS", 30),
		IdleTimeout:  seconds("IDLE_TIMEOUT_SECONDS", 120),
	}
}

// IsDevelopment tells whether errors may be shown to clients.
func (r *Runtime) IsDevelopment() bool { return r.Mode != "prod" }

// StartServer serves handler, http.DefaultServeMux if it is nil, until SIGTERM or SIGINT; then it finishes what is
// in flight and returns nil.
//
// The read timeout bounds a request's head only, and the write timeout is the proxy's: both would otherwise cut long
// uploads and streams.
func (r *Runtime) StartServer(handler http.Handler) error {
	if handler == nil {
		handler = http.DefaultServeMux
	}
	listener, err := r.listen()
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           withHealth(handler),
		ReadHeaderTimeout: r.ReadTimeout,
		IdleTimeout:       r.IdleTimeout,
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	drained := make(chan error, 1)
	go func() {
		<-stop.Done()
		limit, cancel := context.WithTimeout(context.Background(), shutdownLimit)
		defer cancel()
		drained <- server.Shutdown(limit)
	}()
	if err := notify("READY=1"); err != nil {
		slog.Warn("cannot tell that the worker is ready", "error", err)
	}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-drained
}

func (r *Runtime) listen() (net.Listener, error) {
	if r.Socket == "" {
		return net.Listen("tcp", net.JoinHostPort("127.0.0.1", r.Port))
	}
	if err := os.Remove(r.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove stale socket: %w", err)
	}
	listener, err := net.Listen("unix", r.Socket)
	if err != nil {
		return nil, err
	}
	return listener, os.Chmod(r.Socket, 0o600)
}

// withHealth answers /health unless the page does: a ServeMux says so, any other handler is asked.
func withHealth(handler http.Handler) http.Handler {
	mux, isMux := handler.(*http.ServeMux)
	if !isMux {
		return handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/health" {
			if _, pattern := mux.Handler(req); pattern == "" || pattern == "/" {
				w.WriteHeader(http.StatusOK)
				fmt.Fprint(w, "OK")
				return
			}
		}
		mux.ServeHTTP(w, req)
	})
}

// notify speaks the protocol of sd_notify(3).
func notify(state string) error {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return nil
	}
	connection, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = connection.Write([]byte(state))
	return err
}

func seconds(name string, otherwise int) time.Duration {
	value, err := strconv.Atoi(os.Getenv(name))
	if err != nil || value <= 0 {
		value = otherwise
	}
	return time.Duration(value) * time.Second
}

func fallback(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
