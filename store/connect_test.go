package store_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowcall/rowcall/store"
	"github.com/rowcall/rowcall/store/storetest"
)

func TestARefusedConnectionIsExplainedAndOneThatMayComeIsNot(t *testing.T) {
	t.Parallel()
	whole, err := url.Parse(storetest.EmptyURL(t))
	if err != nil {
		t.Fatal(err)
	}
	withMode := func(mode string) string {
		with := *whole
		with.RawQuery = "sslmode=" + mode
		return with.String()
	}
	wrong := *whole
	wrong.User = url.UserPassword(whole.User.Username(), "wrong")
	nowhere := *whole
	nowhere.Path += "_none"
	speaks, authority := speaksTLS(t, net.IPv4(127, 0, 0, 1))
	other, otherAuthority := speaksTLS(t)
	oneIsDown := strings.Replace(withMode("require"), whole.Host, "127.0.0.1:1,"+whole.Host, 1)
	for name, test := range map[string]struct{ url, reason, remedy string }{ // "": trying again may help
		"a wrong password":               {wrong.String(), "wrong user or password", "SOME_URL"},
		"a database that is not there":   {nowhere.String(), "no such database", "CREATE DATABASE"},
		"a server without TLS":           {withMode("verify-full"), "speaks no TLS", "sslmode=disable into SOME_URL"},
		"an authority that nobody knows": {"postgres://" + speaks + "/x?sslmode=verify-full", "nobody whom we trust", "sslmode=verify-full&sslrootcert="},
		"the same, by verify-ca":         {"postgres://" + speaks + "/x?sslmode=verify-ca", "nobody whom we trust", "in SOME_URL"},
		"a certificate for another name": {"postgres://" + other + "/x?sslmode=verify-full&sslrootcert=" + otherAuthority, "another name than 127.0.0.1", "sslmode=verify-ca"},
		"nobody there":                   {"postgres://127.0.0.1:1/x?sslmode=require", "", ""},
		"one of two hosts is down":       {oneIsDown, "", ""},
		"a server that ends the connection": {
			"postgres://" + speaks + "/x?sslmode=verify-ca&sslrootcert=" + authority, "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := pgx.Connect(t.Context(), test.url)
			if err == nil {
				_ = conn.Close(t.Context())
				t.Fatal("it connects")
			}
			reason, remedy := store.Refused(err, "SOME_URL")
			if !strings.Contains(reason, test.reason) || !strings.Contains(remedy, test.remedy) || (reason == "") != (test.reason == "") || (remedy == "") != (reason == "") {
				t.Errorf("%q, %q of %v", reason, remedy, err)
			}
		})
	}
}

// speaksTLS is the address of a server that takes a Postgres connection up to TLS,
// with a certificate for rowcall.test and those addresses, and the file of that
// certificate.
func speaksTLS(t *testing.T, addresses ...net.IP) (address, authority string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"rowcall.test"}, IPAddresses: addresses}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	authority = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if _, err := io.ReadFull(conn, make([]byte, 8)); err == nil { // SSLRequest
				_, _ = conn.Write([]byte("S"))
				_ = tls.Server(conn, config).HandshakeContext(t.Context())
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String(), authority
}
