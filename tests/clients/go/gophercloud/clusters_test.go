package gophercloud

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net/http"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/certificates"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/clusters"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/nodegroups"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// TestCluster leads one cluster through everything that gophercloud can ask for.
func TestCluster(t *testing.T) {
	client := magnum(t, "demo", "")
	template := makeTemplate(t, client, "cluster", nil)
	next := makeTemplate(t, client, "next", map[string]string{"metrics_server_enabled": "false"})
	id := create(t, client, template)
	shown := is(t, client, id, "CREATE_COMPLETE")
	t.Run("shown", func(t *testing.T) { looksRight(t, shown, template) })
	t.Run("versions", func(t *testing.T) { versions(t, client, shown) })
	t.Run("lists", func(t *testing.T) { lists(t, client, id) })
	t.Run("certificates", func(t *testing.T) { signs(t, client, id) })
	t.Run("update", func(t *testing.T) { update(t, client, id) })
	t.Run("resize", func(t *testing.T) { resize(t, client, id) })
	t.Run("node groups", func(t *testing.T) { groups(t, at(client, "1.9"), id) })
	t.Run("faults", func(t *testing.T) { faults(t, at(client, "1.9"), id) })
	t.Run("upgrade, rotate", func(t *testing.T) {
		upgrade(t, client, id, next)
		rotate(t, client, id)
	})
	t.Run("delete", func(t *testing.T) {
		ok(t, clusters.Delete(t.Context(), client, id).ExtractErr())
		ok(t, clusters.Delete(t.Context(), client, id).ExtractErr())
		gone(t, "the cluster", func() error { return clusters.Get(t.Context(), client, id).Err })
	})
}

func create(t *testing.T, client *gophercloud.ServiceClient, template string) string {
	t.Helper()
	masters, nodes := 1, 1
	// No name gives an empty one, no timeout a null.
	made := clusters.Create(t.Context(), client, clusters.CreateOpts{
		ClusterTemplateID: template, Keypair: "default", Labels: map[string]string{},
		MasterCount: &masters, NodeCount: &nodes, FlavorID: "m1.small", MasterFlavorID: "m1.small",
	})
	id, err := made.Extract()
	ok(t, err)
	check(t, "a request id", made.Header.Get("X-OpenStack-Request-Id") != "", made.Header)
	return id
}

// is waits for a status; FAILED ends it unless that is what is waited for.
func is(t *testing.T, client *gophercloud.ServiceClient, id, status string) (c *clusters.Cluster) {
	t.Helper()
	await(t, "the cluster is "+status, func() (_ bool, err error) {
		c, err = clusters.Get(t.Context(), client, id).Extract()
		if err == nil && c.Status != status && len(c.Faults) > 0 {
			err = fmt.Errorf("%s: %s", c.Status, c.StatusReason)
		}
		return err == nil && c.Status == status, err
	})
	return c
}

func looksRight(t *testing.T, c *clusters.Cluster, template string) {
	recently(t, "created_at", c.CreatedAt)
	recently(t, "updated_at", c.UpdatedAt)
	equal(t, "template", c.ClusterTemplateID, template)
	equal(t, "timeout", c.CreateTimeout, 60)
	equal(t, "nodes", c.NodeCount, 1)
	equal(t, "masters", c.MasterCount, 1)
	equal(t, "addresses", len(c.NodeAddresses)+len(c.MasterAddresses), 2)
	equal(t, "label of the template", c.Labels["cgroup_driver"], "systemd")
	equal(t, "labels of its own", len(c.LabelsAdded)+len(c.LabelsOverridden)+len(c.LabelsSkipped), 0)
	equal(t, "links", len(c.Links), 2)
	check(t, "a name was found", c.Name != "", c)
	check(t, "api_address", c.APIAddress != "" && c.StackID != "" && c.UserID != "", c)
	check(t, "no faults", len(c.Faults) == 0, c.Faults)
}

func versions(t *testing.T, client *gophercloud.ServiceClient, shown *clusters.Cluster) {
	for _, version := range []string{"", "1.1", "1.9", "1.10", "1.13", "latest"} {
		found, err := clusters.Get(t.Context(), at(client, version), shown.Name).Extract()
		ok(t, err)
		stack := shown.StackID
		if version == "1.13" || version == "latest" {
			stack = "" // cluster_id since then, which gophercloud does not read
		}
		equal(t, "stack_id at "+version, found.StackID, stack)
		page := nodegroups.List(at(client, version), shown.UUID, nil)
		_, err = page.AllPages(t.Context())
		if version == "" || version == "1.1" {
			refused(t, "node groups before 1.9", err, http.StatusNotAcceptable)
		} else {
			ok(t, err)
		}
	}
	err := clusters.Get(t.Context(), at(client, "1.99"), shown.UUID).Err
	refused(t, "1.99", err, http.StatusNotAcceptable)
}

func lists(t *testing.T, client *gophercloud.ServiceClient, id string) {
	short := clusters.List(client, clusters.ListOpts{Limit: 1, SortKey: "name", SortDir: "desc"})
	detail := clusters.ListDetail(client, clusters.ListOpts{Limit: 1})
	for what, pager := range map[string]pagination.Pager{"short": short, "detail": detail} {
		pages, err := pager.AllPages(t.Context())
		ok(t, err)
		all, err := clusters.ExtractClusters(pages)
		ok(t, err)
		found := 0
		for _, c := range all {
			if c.UUID == id {
				found++
			}
		}
		equal(t, "in the "+what+" list", found, 1)
	}
}

func request(t *testing.T) (string, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	subject := pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}
	der, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: subject}, key)
	ok(t, err)
	block := &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}
	return string(pem.EncodeToMemory(block)), key
}

func signs(t *testing.T, client *gophercloud.ServiceClient, id string) {
	authority, err := certificates.Get(t.Context(), client, id).Extract()
	ok(t, err)
	equal(t, "cluster", authority.ClusterUUID, id)
	roots := x509.NewCertPool()
	check(t, "the CA", roots.AppendCertsFromPEM([]byte(authority.PEM)), authority.PEM)
	csr, key := request(t)
	signed, err := certificates.Create(t.Context(), client,
		certificates.CreateOpts{ClusterUUID: id, CSR: csr}).Extract()
	ok(t, err)
	equal(t, "the request is shown", signed.CSR, csr)
	block, _ := pem.Decode([]byte(signed.PEM))
	leaf, err := x509.ParseCertificate(block.Bytes)
	ok(t, err)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	ok(t, err)
	check(t, "for our key", key.PublicKey.Equal(leaf.PublicKey), leaf.PublicKey)
	equal(t, "organization", leaf.Subject.Organization[0], "system:masters")
}

func update(t *testing.T, client *gophercloud.ServiceClient, id string) {
	patch := []clusters.UpdateOptsBuilder{clusters.UpdateOpts{
		Op: clusters.ReplaceOp, Path: "/node_count", Value: 2}}
	changed := clusters.Update(t.Context(), client, id, patch)
	found, err := changed.Extract()
	ok(t, err)
	equal(t, "uuid", found, id)
	equal(t, "nodes", is(t, client, id, "UPDATE_COMPLETE").NodeCount, 2)
	none := 0
	patch[0] = clusters.UpdateOpts{Op: clusters.ReplaceOp, Path: "/node_count", Value: none}
	refused(t, "none before 1.10", clusters.Update(t.Context(), at(client, "1.9"), id, patch).Err,
		http.StatusBadRequest)
}

func resize(t *testing.T, client *gophercloud.ServiceClient, id string) {
	shown := is(t, client, id, "UPDATE_COMPLETE")
	going, staying := shown.NodeAddresses[0], shown.NodeAddresses[1]
	for _, count := range []int{1, 0, 1} {
		opts := clusters.ResizeOpts{NodeCount: &count}
		if going != "" {
			opts.NodesToRemove = []string{going}
		}
		_, err := clusters.Resize(t.Context(), at(client, "1.10"), id, opts).Extract()
		ok(t, err)
		shown = is(t, client, id, "UPDATE_COMPLETE")
		equal(t, "nodes", shown.NodeCount, count)
		if going != "" {
			equal(t, "the node that stays", shown.NodeAddresses[0], staying)
		}
		going = ""
	}
}

func groups(t *testing.T, client *gophercloud.ServiceClient, id string) {
	pages, err := nodegroups.List(client, id, nodegroups.ListOpts{Role: "worker"}).AllPages(t.Context())
	ok(t, err)
	all, err := nodegroups.ExtractNodeGroups(pages)
	ok(t, err)
	equal(t, "groups of workers", len(all), 1)
	check(t, "the default one", all[0].IsDefault && all[0].NodeCount == 1, all[0])

	two := 2
	made, err := nodegroups.Create(t.Context(), client, id,
		nodegroups.CreateOpts{Name: "more", NodeCount: &two}).Extract()
	ok(t, err)
	equal(t, "status", made.Status, "CREATE_IN_PROGRESS")
	shown := groupIs(t, client, id, made.UUID, "CREATE_COMPLETE")
	recently(t, "created_at", shown.CreatedAt)
	equal(t, "role", shown.Role, "worker")
	equal(t, "flavor", shown.FlavorID, "m1.small")
	equal(t, "image", shown.ImageID, "ubuntu")
	equal(t, "addresses", len(shown.NodeAddresses), 2)
	check(t, "no most", shown.MaxNodeCount == nil && shown.MinNodeCount == 0, shown)

	set := func(path string, value any) nodegroups.UpdateOptsBuilder {
		return nodegroups.UpdateOpts{Op: nodegroups.ReplaceOp, Path: path, Value: value}
	}
	for _, limits := range []struct {
		patch     []nodegroups.UpdateOptsBuilder
		min, most int
	}{
		{[]nodegroups.UpdateOptsBuilder{set("/min_node_count", 2)}, 2, 0},
		{[]nodegroups.UpdateOptsBuilder{set("/max_node_count", 5)}, 2, 5},
		{[]nodegroups.UpdateOptsBuilder{set("/min_node_count", 1), set("/max_node_count", 3)}, 1, 3},
		{[]nodegroups.UpdateOptsBuilder{nodegroups.UpdateOpts{
			Op: nodegroups.RemoveOp, Path: "/max_node_count"}}, 1, 0},
	} {
		changed, err := nodegroups.Update(t.Context(), client, id, made.UUID, limits.patch).Extract()
		ok(t, err)
		most := 0
		if changed.MaxNodeCount != nil {
			most = *changed.MaxNodeCount
		}
		equal(t, "min_node_count", changed.MinNodeCount, limits.min)
		equal(t, "max_node_count", most, limits.most)
	}
	none := 0
	refused(t, "below its least", clusters.Resize(t.Context(), at(client, "1.10"), id,
		clusters.ResizeOpts{NodeCount: &none, NodeGroup: made.UUID}).Err, http.StatusBadRequest)
	empty, err := nodegroups.Create(t.Context(), at(client, "1.10"), id,
		nodegroups.CreateOpts{Name: "empty", NodeCount: &none}).Extract()
	ok(t, err)
	groupIs(t, client, id, empty.UUID, "CREATE_COMPLETE")
	for _, group := range []string{made.UUID, empty.UUID} {
		ok(t, nodegroups.Delete(t.Context(), client, id, group).ExtractErr())
	}
	for _, group := range []string{made.UUID, empty.UUID} {
		gone(t, "the group", func() error {
			return nodegroups.Get(t.Context(), client, id, group).Err
		})
	}
	is(t, client, id, "UPDATE_COMPLETE")
}

func groupIs(t *testing.T, client *gophercloud.ServiceClient, id, group, status string) (
	found *nodegroups.NodeGroup,
) {
	t.Helper()
	await(t, "the group is "+status, func() (_ bool, err error) {
		found, err = nodegroups.Get(t.Context(), client, id, group).Extract()
		return err == nil && found.Status == status, err
	})
	return found
}

// faults makes a group whose node gives up, as the lab was told.
func faults(t *testing.T, client *gophercloud.ServiceClient, id string) {
	made, err := nodegroups.Create(t.Context(), client, id,
		nodegroups.CreateOpts{Name: "faulty"}).Extract()
	ok(t, err)
	failed := groupIs(t, client, id, made.UUID, "CREATE_FAILED")
	var shown *clusters.Cluster
	await(t, "the cluster shows the fault", func() (_ bool, err error) {
		shown, err = clusters.Get(t.Context(), client, id).Extract()
		return err == nil && shown.Status == "UPDATE_FAILED", err
	})
	equal(t, "the fault", shown.Faults["faulty"], failed.StatusReason)
	check(t, "the node's word", failed.StatusReason != "", failed)
	ok(t, nodegroups.Delete(t.Context(), client, id, "faulty").ExtractErr())
	gone(t, "the group", func() error {
		return nodegroups.Get(t.Context(), client, id, made.UUID).Err
	})
}

func upgrade(t *testing.T, client *gophercloud.ServiceClient, id, template string) {
	batch := 1
	opts := clusters.UpgradeOpts{ClusterTemplate: template, MaxBatchSize: &batch}
	_, err := clusters.Upgrade(t.Context(), at(client, "1.8"), id, opts).Extract()
	ok(t, err)
	shown := is(t, client, id, "UPDATE_COMPLETE")
	equal(t, "template", shown.ClusterTemplateID, template)
	equal(t, "label", shown.Labels["metrics_server_enabled"], "false")
}

func rotate(t *testing.T, client *gophercloud.ServiceClient, id string) {
	before, err := certificates.Get(t.Context(), client, id).Extract()
	ok(t, err)
	ok(t, certificates.Update(t.Context(), client, id).ExtractErr())
	is(t, client, id, "UPDATE_COMPLETE")
	after, err := certificates.Get(t.Context(), client, id).Extract()
	ok(t, err)
	check(t, "another CA", after.PEM != before.PEM, after.PEM)
}
