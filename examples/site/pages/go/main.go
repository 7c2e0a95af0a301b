// The page at /go: compiled when it is saved.
package main

import (
	"fmt"
	"log"
	"net/http"

	"github.com/tqserver/tqserver/sdk/go/worker"
)

const greeting = "Hello from Go"

func main() {
	runtime := worker.NewRuntime()
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<!doctype html><title>%s</title><h1>%s</h1><p>Revision %s of %s. <a href=\"/\">Back</a>\n",
			greeting, greeting, runtime.Revision, runtime.Route)
	})
	log.Fatal(runtime.StartServer(nil))
}
