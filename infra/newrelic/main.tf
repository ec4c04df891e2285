# The dashboard and the alert conditions of NRDOT+ in New Relic. Both files are generated: "npm run docs".
terraform {
  required_version = ">= 1.3"
  required_providers {
    newrelic = {
      source  = "newrelic/newrelic"
      version = ">= 3.40"
    }
  }
}

locals {
  # Whose data the charts are of is for the account to say.
  dashboards = {
    for file in fileset("${path.module}/dashboards", "*.json") :
    trimsuffix(file, ".json") => replace(
      file("${path.module}/dashboards/${file}"),
      "\"accountIds\": []",
      "\"accountIds\": [${var.account_id}]",
    )
  }

  conditions = {
    for condition in jsondecode(file("${path.module}/alerts.json")) :
    condition.name => condition if !contains(var.without, condition.name)
  }
}

resource "newrelic_one_dashboard_json" "nrdot" {
  for_each   = local.dashboards
  account_id = var.account_id
  json       = each.value
}

resource "newrelic_alert_policy" "nrdot" {
  account_id          = var.account_id
  name                = var.policy_name
  incident_preference = "PER_CONDITION_AND_TARGET"
}

resource "newrelic_nrql_alert_condition" "nrdot" {
  for_each    = local.conditions
  account_id  = var.account_id
  policy_id   = newrelic_alert_policy.nrdot.id
  type        = "static"
  name        = each.value.name
  description = each.value.description
  runbook_url = var.runbook_base_url == "" ? null : "${trimsuffix(var.runbook_base_url, "/")}/${each.value.runbook}"
  enabled     = true

  # Processes send once a minute, and not all of them at the same time.
  aggregation_method = "event_timer"
  aggregation_timer  = var.aggregation_timer
  aggregation_window = each.value.aggregation_window
  slide_by           = each.value.slide_by

  expiration_duration            = each.value.expiration_duration
  open_violation_on_expiration   = each.value.open_violation_on_expiration
  close_violations_on_expiration = !each.value.open_violation_on_expiration
  violation_time_limit_seconds   = var.violation_time_limit_seconds

  nrql {
    query = each.value.query
  }

  dynamic "critical" {
    for_each = each.value.severity == "critical" ? [each.value] : []
    content {
      operator              = critical.value.operator
      threshold             = critical.value.threshold
      threshold_duration    = critical.value.threshold_duration
      threshold_occurrences = "all"
    }
  }

  dynamic "warning" {
    for_each = each.value.severity == "warning" ? [each.value] : []
    content {
      operator              = warning.value.operator
      threshold             = warning.value.threshold
      threshold_duration    = warning.value.threshold_duration
      threshold_occurrences = "all"
    }
  }
}
