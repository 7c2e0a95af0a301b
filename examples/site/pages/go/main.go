// The page at /go. Save this file, and it is compiled and live; a mistake leaves the last good program running.
package main

import (
	_ "embed"
	"html/template"
	"log"
	"net/http"
	"runtime"

	"github.com/tqserver/tqserver/sdk/go/worker"
)

const greeting = "Hello from Go" // <- change this, save, and reload

//go:embed page.html
var source string

var page = template.Must(template.New("page").Parse(source))

func main() {
	self := worker.NewRuntime()
	http.HandleFunc("/go", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		err := page.Execute(w, map[string]string{
			"Greeting": greeting,
			"Revision": self.Revision,
			"Version":  runtime.Version(),
			"Mode":     self.Mode,
		})
		if err != nil {
			log.Print(err)
		}
	})
	if err := self.StartServer(nil); err != nil {
		log.Fatal(err)
	}
}
