package worker

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func client(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) },
	}}
}

func TestServesOnTheSocketSaysReadyAndStops(t *testing.T) {
	directory := t.TempDir()
	notifyPath := filepath.Join(directory, "n")
	t.Setenv("TQ_SOCKET", filepath.Join(directory, "s"))
	t.Setenv("NOTIFY_SOCKET", notifyPath)
	said, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notifyPath, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "page") })
	runtime := NewRuntime()
	ended := make(chan error, 1)
	go func() { ended <- runtime.StartServer(mux) }()
	buffer := make([]byte, 64)
	said.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := said.Read(buffer); err != nil || string(buffer[:n]) != "READY=1" {
		t.Fatalf("said %q, %v", buffer[:n], err)
	}
	for path, wanted := range map[string]string{"/": "page", "/health": "OK"} {
		response, err := client(runtime.Socket).Get("http://page" + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if string(body) != wanted {
			t.Errorf("%s: %q, wanted %q", path, body, wanted)
		}
	}
	syscall.Kill(syscall.Getpid(), syscall.SIGTERM)
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestThePagesOwnHealthWins(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	request, _ := http.NewRequest("GET", "/health", nil)
	recorder := &statusRecorder{header: http.Header{}}
	withHealth(mux).ServeHTTP(recorder, request)
	if recorder.status != http.StatusTeapot {
		t.Errorf("status %d", recorder.status)
	}
}

type statusRecorder struct {
	header http.Header
	status int
}

func (r *statusRecorder) Header() http.Header         { return r.header }
func (r *statusRecorder) Write(p []byte) (int, error) { return len(p), nil }
func (r *statusRecorder) WriteHeader(status int)      { r.status = status }
