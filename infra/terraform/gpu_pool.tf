# GPU nodes: none while nothing runs, spot, and tainted, so that only tasks that ask for a GPU land there.
resource "google_container_node_pool" "gpu" {
  project        = var.project
  name           = "relevance-gpu"
  cluster        = var.cluster
  location       = var.cluster_location
  node_locations = var.gpu_zones

  autoscaling {
    total_min_node_count = 0
    total_max_node_count = var.max_gpu_nodes
    location_policy      = "ANY" # wherever spot capacity is
  }
  management {
    auto_repair  = true
    auto_upgrade = true
  }

  node_config {
    machine_type    = var.gpu_machine_type
    spot            = var.spot
    service_account = google_service_account.node.email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]
    image_type      = "COS_CONTAINERD"
    disk_size_gb    = 500
    disk_type       = "pd-ssd"
    labels          = { "relevance/pool" = "gpu-spot" } # what infra/base/queues.yaml looks for
    resource_labels = var.labels

    guest_accelerator {
      type  = var.gpu_type
      count = var.gpus_per_node
      gpu_driver_installation_config {
        gpu_driver_version = "DEFAULT"
      }
    }
    taint {
      key    = "nvidia.com/gpu"
      value  = "present"
      effect = "NO_SCHEDULE"
    }
    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }
    workload_metadata_config {
      mode = "GKE_METADATA"
    }
  }
}
