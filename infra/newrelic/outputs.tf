output "dashboards" {
  description = "Addresses of the dashboards, by name."
  value       = { for name, dashboard in newrelic_one_dashboard_json.nrdot : name => dashboard.permalink }
}

output "policy_id" {
  description = "Alert policy, for a workflow that notifies."
  value       = newrelic_alert_policy.nrdot.id
}

output "conditions" {
  description = "Names of the conditions."
  value       = sort(keys(newrelic_nrql_alert_condition.nrdot))
}
