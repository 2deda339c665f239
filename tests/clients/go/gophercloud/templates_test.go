package gophercloud

import (
	"context"
	"net/http"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/apiversions"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/clustertemplates"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/quotas"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

func TestVersions(t *testing.T) {
	pages, err := apiversions.List(magnum(t, "demo", "")).AllPages(t.Context())
	ok(t, err)
	found, err := apiversions.ExtractAPIVersions(pages)
	ok(t, err)
	equal(t, "versions", len(found), 1)
	equal(t, "version", found[0], apiversions.APIVersion{
		ID: "v1", Status: "CURRENT", MinVersion: "1.1", Version: "1.14"})
}

func templateOpts(what string, labels map[string]string) clustertemplates.CreateOpts {
	no := false
	return clustertemplates.CreateOpts{
		COE: "kubernetes", DNSNameServer: "8.8.8.8", DockerStorageDriver: "overlay2",
		ExternalNetworkID: "public", FlavorID: "m1.small", MasterFlavorID: "m1.small",
		FloatingIPEnabled: &no, ImageID: "ubuntu", MasterLBEnabled: &no, Name: name(what),
		Public: &no, RegistryEnabled: &no, ServerType: "vm", Labels: labels,
	}
}

// makeTemplate makes one that goes when the test ends.
func makeTemplate(
	t *testing.T, client *gophercloud.ServiceClient, what string, labels map[string]string,
) string {
	t.Helper()
	if labels == nil {
		labels = map[string]string{"cgroup_driver": "systemd"}
	}
	made := clustertemplates.Create(t.Context(), client, templateOpts(what, labels))
	template, err := made.Extract()
	ok(t, err)
	check(t, "a request id", made.Header.Get("X-OpenStack-Request-Id") != "", made.Header)
	recently(t, "created_at", template.CreatedAt)
	check(t, "never changed", template.UpdatedAt.IsZero(), template.UpdatedAt)
	for key, value := range labels {
		equal(t, key, template.Labels[key], value)
	}
	t.Cleanup(func() {
		// The test's own context has ended by then.
		ended := context.WithoutCancel(t.Context())
		if err := clustertemplates.Delete(ended, client, template.UUID).ExtractErr(); err != nil {
			t.Error(err)
		}
	})
	return template.UUID
}

func TestTemplates(t *testing.T) {
	client := magnum(t, "demo", "")
	ids := map[string]int{makeTemplate(t, client, "first", nil): 0, makeTemplate(t, client, "second", nil): 0}
	pages := 0
	err := clustertemplates.List(client, clustertemplates.ListOpts{Limit: 1}).EachPage(t.Context(),
		func(_ context.Context, page pagination.Page) (bool, error) {
			pages++
			found, err := clustertemplates.ExtractClusterTemplates(page)
			for _, template := range found {
				if _, ours := ids[template.UUID]; ours {
					ids[template.UUID]++
				}
			}
			return err == nil, err
		})
	ok(t, err)
	check(t, "a page for each", pages >= 2, pages)
	for id, times := range ids {
		equal(t, "on the pages", times, 1)
		found, err := clustertemplates.Get(t.Context(), client, id).Extract()
		ok(t, err)
		equal(t, "uuid", found.UUID, id)
	}
	for _, version := range []string{"1.1", "1.9", "1.10", "1.13", "latest"} {
		found, err := clustertemplates.Get(t.Context(), at(client, version), name("first")).Extract()
		ok(t, err)
		equal(t, "name at "+version, found.Name, name("first"))
	}
	patch := func(op clustertemplates.UpdateOp, path, value string) clustertemplates.UpdateOptsBuilder {
		return clustertemplates.UpdateOpts{Op: op, Path: path, Value: value}
	}
	changed, err := clustertemplates.Update(t.Context(), client, name("first"),
		[]clustertemplates.UpdateOptsBuilder{
			patch(clustertemplates.ReplaceOp, "/master_lb_enabled", "false"),
			patch(clustertemplates.ReplaceOp, "/registry_enabled", "false"),
			patch(clustertemplates.AddOp, "/labels/test", "test"),
			patch(clustertemplates.ReplaceOp, "/name", name("first")),
		}).Extract()
	ok(t, err)
	equal(t, "master_lb_enabled", changed.MasterLBEnabled, false)
	equal(t, "registry_enabled", changed.RegistryEnabled, false)
	equal(t, "label", changed.Labels["test"], "test")
	recently(t, "updated_at", changed.UpdatedAt)
	refused(t, "a swarm", clustertemplates.Create(t.Context(), client, clustertemplates.CreateOpts{
		COE: "nomad", ImageID: "ubuntu"}).Err, http.StatusBadRequest)
}

func TestQuota(t *testing.T) {
	provider, endpoint := of(t, "admin")
	identity, err := openstack.NewIdentityV3(provider, endpoint)
	ok(t, err)
	pages, err := projects.List(identity, projects.ListOpts{Name: "service"}).AllPages(t.Context())
	ok(t, err)
	found, err := projects.ExtractProjects(pages)
	ok(t, err)
	client := magnum(t, "admin", "")
	opts := quotas.CreateOpts{ProjectID: found[0].ID, Resource: "Cluster", HardLimit: 10}
	quota, err := quotas.Create(t.Context(), client, opts).Extract()
	ok(t, err)
	equal(t, "project", quota.ProjectID, found[0].ID)
	equal(t, "limit", quota.HardLimit, 10)
	check(t, "an id", quota.ID != "", quota)
	recently(t, "created_at", quota.CreatedAt)
	refused(t, "twice", quotas.Create(t.Context(), client, opts).Err, http.StatusConflict)
	// gophercloud has no words for more.
	path := client.ServiceURL("quotas", found[0].ID, "Cluster")
	_, err = client.Delete(t.Context(), path, nil)
	ok(t, err)
	refused(t, "not by a member",
		quotas.Create(t.Context(), magnum(t, "demo", ""), opts).Err, http.StatusForbidden)
}
