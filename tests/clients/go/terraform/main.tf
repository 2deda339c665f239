# What `terraform` applies, changes and destroys here, step by step; the variables are the steps.

terraform {
  required_providers {
    openstack = { source = "terraform-provider-openstack/openstack" }
  }
}

provider "openstack" {
  cloud = "demo"
}

variable "name" { type = string }

variable "nodes" {
  type    = number
  default = 1
}

variable "group" {
  type    = object({ nodes = number, least = number, most = number })
  default = null
}

variable "upgraded" {
  type    = bool
  default = false
}

variable "spare" {
  type    = object({ lb = bool, registry = bool, dns = string, labels = map(string), volume = number })
  default = { lb = false, registry = false, dns = "192.0.2.53", labels = { a = "1", b = "two" }, volume = null }
}

locals {
  # The same labels: a group that has merged its cluster's keeps those, and the provider would make
  # it anew when the cluster's become others.
  templates = { first = { cgroup_driver = "systemd" }, next = { cgroup_driver = "systemd" } }
}

resource "openstack_containerinfra_clustertemplate_v1" "of" {
  for_each            = local.templates
  name                = "${var.name}-${each.key}"
  image               = "ubuntu"
  coe                 = "kubernetes"
  flavor              = "m1.small"
  master_flavor       = "m1.small"
  external_network_id = "public"
  keypair_id          = "default"
  floating_ip_enabled = false
  labels              = each.value
}

# Nobody uses this one, so everything about it may change.
resource "openstack_containerinfra_clustertemplate_v1" "spare" {
  name                = "${var.name}-spare"
  image               = "ubuntu"
  coe                 = "kubernetes"
  flavor              = "m1.small"
  external_network_id = "public"
  dns_nameserver      = var.spare.dns
  docker_volume_size  = var.spare.volume
  master_lb_enabled   = var.spare.lb
  registry_enabled    = var.spare.registry
  labels              = var.spare.labels
}

resource "openstack_containerinfra_cluster_v1" "it" {
  name                = var.name
  cluster_template_id = openstack_containerinfra_clustertemplate_v1.of[var.upgraded ? "next" : "first"].id
  master_count        = 1
  node_count          = var.nodes
  create_timeout      = 20
  labels              = { kube_dashboard_enabled = "false" }
  merge_labels        = true
}

resource "openstack_containerinfra_nodegroup_v1" "more" {
  count          = var.group == null ? 0 : 1
  cluster_id     = openstack_containerinfra_cluster_v1.it.id
  name           = "more"
  role           = "gpu"
  flavor_id      = "m1.medium"
  node_count     = var.group.nodes
  min_node_count = var.group.least
  max_node_count = var.group.most
  labels         = { fleet = "blue" }
  merge_labels   = true
}

data "openstack_containerinfra_cluster_v1" "it" {
  name       = openstack_containerinfra_cluster_v1.it.name
  depends_on = [openstack_containerinfra_cluster_v1.it, openstack_containerinfra_nodegroup_v1.more]
}

data "openstack_containerinfra_clustertemplate_v1" "spare" {
  name       = openstack_containerinfra_clustertemplate_v1.spare.name
  depends_on = [openstack_containerinfra_clustertemplate_v1.spare]
}

# Not the whole cluster: its data has a new kubeconfig each time.
output "seen" {
  value = {
    cluster = {
      for key in ["id", "node_count", "node_addresses"] :
      key => data.openstack_containerinfra_cluster_v1.it[key]
    }
    template = data.openstack_containerinfra_clustertemplate_v1.spare
  }
}
