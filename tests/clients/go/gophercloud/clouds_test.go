// Package gophercloud drives magnumd as gophercloud's own acceptance tests drive Magnum, and
// checks what they leave out: versions, pages, faults, node groups of none.
//
// OS_CLIENT_CONFIG_FILE names the clouds.yaml of a lab that was started with
//
//	--fault 'guest:*-faulty-*:certs:fail=no room'
package gophercloud

import (
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/config"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
)

// patience is how long a cluster may take to be built, changed or deleted.
const patience = 5 * time.Minute

// of logs in with an account of clouds.yaml.
func of(t *testing.T, cloud string) (*gophercloud.ProviderClient, gophercloud.EndpointOpts) {
	t.Helper()
	auth, endpoint, tls, err := clouds.Parse(clouds.WithCloudName(cloud))
	ok(t, err)
	provider, err := config.NewProviderClient(t.Context(), auth, config.WithTLSConfig(tls))
	ok(t, err)
	return provider, endpoint
}

// magnum is a client that asks for a version, or for none.
func magnum(t *testing.T, cloud, version string) *gophercloud.ServiceClient {
	t.Helper()
	client, err := openstack.NewContainerInfraV1(of(t, cloud))
	ok(t, err)
	client.Microversion = version
	return client
}

// at is the same client with another version.
func at(client *gophercloud.ServiceClient, version string) *gophercloud.ServiceClient {
	other := *client
	other.Microversion = version
	return &other
}

func name(what string) string { return fmt.Sprintf("gophercloud-%s-%d", what, os.Getpid()) }

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, what string, found, wanted T) {
	t.Helper()
	if found != wanted {
		t.Fatalf("%s: %v, wanted %v", what, found, wanted)
	}
}

func check(t *testing.T, what string, truth bool, found any) {
	t.Helper()
	if !truth {
		t.Fatalf("%s: %+v", what, found)
	}
}

// refused wants this status as the answer.
func refused(t *testing.T, what string, err error, status int) {
	t.Helper()
	check(t, what, gophercloud.ResponseCodeIs(err, status), err)
}

// recently is what a time must be that was given while these tests run.
func recently(t *testing.T, what string, when time.Time) {
	t.Helper()
	check(t, what, time.Since(when).Abs() < time.Hour, when)
}

// await looks until it is so.
func await(t *testing.T, what string, look func() (bool, error)) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		so, err := look()
		ok(t, err)
		if so {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// gone waits until getting it is answered with 404.
func gone(t *testing.T, what string, get func() error) {
	t.Helper()
	await(t, what+" is gone", func() (bool, error) {
		err := get()
		if gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			return true, nil
		}
		return false, err
	})
}
