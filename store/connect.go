package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Refused says why a Postgres does not let us connect, and what a person does about
// it, where waiting for it is of no use: a wrong user, password or database, and TLS
// that the server does not speak or that proves nothing. setting is what its address
// is called, such as ROWCALL_DATABASE_URL. Both are empty where trying again may
// help, as where one of several hosts is merely down.
func Refused(err error, setting string) (reason, remedy string) {
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case pe.Code == "28P01":
			return "wrong user or password", "correct user and password in " + setting
		case strings.HasPrefix(pe.Code, "28"):
			return "the server does not let us in", "correct user and password in " + setting + ", and pg_hba.conf on the server: " +
				"it must allow this user, database and address (also for logical replication it is the database's own line, not that of \"replication\"), " +
				"and the role must be one that may log in"
		case pe.Code == "3D000":
			return "there is no such database", "create it (CREATE DATABASE), or correct the database in " + setting
		}
		return "", ""
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); !ok {
		return "", ""
	}
	for _, tried := range attempts(err) {
		if reason, remedy = refusedTLS(tried, setting); reason == "" {
			return "", ""
		}
	}
	return reason, remedy
}

// attempts are the errors of every address that was tried.
func attempts(err error) []error {
	for at := err; at != nil; at = errors.Unwrap(at) {
		if joined, ok := at.(interface{ Unwrap() []error }); ok {
			return joined.Unwrap()
		}
	}
	return []error{err}
}

func refusedTLS(err error, setting string) (reason, remedy string) {
	const authority = "sslmode=verify-full&sslrootcert=/path/of/ca.pem"
	host, isHost := errors.AsType[x509.HostnameError](err)
	_, isUnknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	_, isOther := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case strings.Contains(err.Error(), "server refused TLS connection"): // pgconn gives it no type
		return "the server speaks no TLS",
			"turn ssl on in that server, or, where the network in between is trusted, write sslmode=disable into " + setting +
				" (what names no sslmode is reached by verify-full, unless it is on this machine)"
	case isHost:
		return "the server's certificate is for another name than " + host.Host,
			"name the server in " + setting + " as its certificate does, or write sslmode=verify-ca, with sslrootcert=/path/of/ca.pem, which proves less"
	case isUnknown:
		return "nobody whom we trust vouches for the server's certificate",
			"name the authority that signed it in " + setting + ", as in " + authority + "; sslmode=require encrypts, and does not check with whom"
	case isInvalid || isOther:
		return "the server's certificate is not valid",
			"give the server one that is, or name its authority in " + setting + ", as in " + authority + "; sslmode=require encrypts, and does not check with whom"
	}
	return "", ""
}
