// A reverse proxy with a static token as one writes it in Go: httputil.ReverseProxy.
//
// Run: reverse_proxy PORT UPSTREAM CA_FILE TOKEN
package main

import (
	"crypto/tls"
	"crypto/x509"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// buffers pools the buffers of responses, so that none is allocated for each response.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte  { return *b.pool.Get().(*[]byte) }
func (b *buffers) Put(s []byte) { b.pool.Put(&s) }

func newBuffer() any {
	buffer := make([]byte, 32*1024)
	return &buffer
}

func main() {
	port, caFile, bearer := os.Args[1], os.Args[3], "Bearer "+os.Args[4]
	upstream, err := url.Parse(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		log.Fatal(err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(pem) {
		log.Fatal("no certificate in " + caFile)
	}
	proxy := &httputil.ReverseProxy{
		Director: func(request *http.Request) {
			request.URL.Scheme, request.URL.Host, request.Host = upstream.Scheme, upstream.Host, upstream.Host
			request.URL.Path = strings.TrimPrefix(request.URL.Path, "/api")
			request.URL.RawPath = ""
			request.Header.Set("Authorization", bearer)
			request.Header["X-Forwarded-For"] = nil // not to be added
		},
		Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{RootCAs: trusted, ClientSessionCache: tls.NewLRUClientSessionCache(64)},
			MaxIdleConnsPerHost: 8192,
			IdleConnTimeout:     time.Minute,
			DisableCompression:  true, // it would ask for gzip on its own, and unpack it
		},
		BufferPool: &buffers{sync.Pool{New: newBuffer}},
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, proxy))
}
