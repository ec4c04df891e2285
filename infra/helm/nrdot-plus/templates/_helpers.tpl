{{- define "nrdot.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{- end -}}
{{- end -}}

{{/* Labels that never change. Takes a dict of root and role. */}}
{{- define "nrdot.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- if .role }}
app.kubernetes.io/component: {{ .role }}
{{- end }}
{{- end -}}

{{- define "nrdot.labels" -}}
{{ include "nrdot.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{/* The secrets of a role: name of the environment variable, and key in the Secret. */}}
{{- define "nrdot.secrets" -}}
{{- $v := .root.Values -}}
{{- $all := dict "NRDOT_ADMIN_TOKEN" (required "secret.keys.adminToken: expected the key with the admin token" $v.secret.keys.adminToken) -}}
{{- if not $v.redis.url -}}{{- $_ := set $all "NRDOT_REDIS_URL" (required "redis.url or secret.keys.redisUrl: expected one" $v.secret.keys.redisUrl) -}}{{- end -}}
{{- if and (eq .role "exporter") $v.secret.keys.upstreamKey -}}{{- $_ := set $all "NRDOT_UPSTREAM_KEY" $v.secret.keys.upstreamKey -}}{{- end -}}
{{- if and (eq .role "receiver") $v.secret.keys.ingestToken -}}{{- $_ := set $all "NRDOT_INGEST_TOKEN" $v.secret.keys.ingestToken -}}{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* The TLS Secrets of a role: directory below /etc/nrdot-tls, and name of the Secret. */}}
{{- define "nrdot.tls" -}}
{{- $v := .root.Values -}}
{{- $all := dict -}}
{{- if $v.admin.tls.secretName -}}{{- $_ := set $all "admin" $v.admin.tls.secretName -}}{{- end -}}
{{- if $v.redis.tls.secretName -}}{{- $_ := set $all "redis" $v.redis.tls.secretName -}}{{- end -}}
{{- if and (eq .role "exporter") $v.upstream.tls.secretName -}}{{- $_ := set $all "upstream" $v.upstream.tls.secretName -}}{{- end -}}
{{- if and (eq .role "receiver") $v.receiver.tls.secretName -}}{{- $_ := set $all "receiver" $v.receiver.tls.secretName -}}{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* nrdot.yaml of a role: each holds only what that role has to know. */}}
{{- define "nrdot.config" -}}
{{- $v := .root.Values -}}
{{- $tls := "/etc/nrdot-tls" -}}
{{- $admin := dict "listen" ":8888" "token" "${env:NRDOT_ADMIN_TOKEN}" -}}
{{- if $v.admin.tls.secretName -}}
{{- $_ := set $admin "tls" (dict "cert_file" (printf "%s/admin/tls.crt" $tls) "key_file" (printf "%s/admin/tls.key" $tls)) -}}
{{- end -}}
{{- $redis := dict "url" ($v.redis.url | default "${env:NRDOT_REDIS_URL}") -}}
{{- if or $v.redis.tls.enabled $v.redis.tls.secretName -}}
{{- $t := dict "enabled" true -}}
{{- if $v.redis.tls.secretName -}}{{- $_ := set $t "ca_file" (printf "%s/redis/ca.crt" $tls) -}}{{- end -}}
{{- if $v.redis.tls.clientCertificate -}}{{- $_ := set $t "cert_file" (printf "%s/redis/tls.crt" $tls) -}}{{- $_ := set $t "key_file" (printf "%s/redis/tls.key" $tls) -}}{{- end -}}
{{- $_ := set $redis "tls" $t -}}
{{- end -}}
{{- $config := dict "admin" $admin "redis" $redis "log" (dict "format" "json") -}}
{{- if eq .role "receiver" -}}
{{- $r := dict "listen" ":4318" -}}
{{- if $v.secret.keys.ingestToken -}}{{- $_ := set $r "tokens" (list "${env:NRDOT_INGEST_TOKEN}") -}}{{- end -}}
{{- if $v.receiver.tls.secretName -}}
{{- $t := dict "cert_file" (printf "%s/receiver/tls.crt" $tls) "key_file" (printf "%s/receiver/tls.key" $tls) -}}
{{- if $v.receiver.tls.clientCertificate -}}{{- $_ := set $t "client_ca_file" (printf "%s/receiver/ca.crt" $tls) -}}{{- end -}}
{{- $_ := set $r "tls" $t -}}
{{- end -}}
{{- $_ := set $config "receiver" $r -}}
{{- $_ := set $config "dlq" (dict "url" (printf "http://%s-dlq:4319" (include "nrdot.fullname" .root))) -}}
{{- else if eq .role "exporter" -}}
{{- $e := dict "endpoint" $v.upstream.endpoint -}}
{{- if $v.secret.keys.upstreamKey -}}{{- $_ := set $e "headers" (dict $v.upstream.keyHeader "${env:NRDOT_UPSTREAM_KEY}") -}}{{- end -}}
{{- if $v.upstream.tls.secretName -}}
{{- $t := dict "ca_file" (printf "%s/upstream/ca.crt" $tls) -}}
{{- if $v.upstream.tls.clientCertificate -}}{{- $_ := set $t "cert_file" (printf "%s/upstream/tls.crt" $tls) -}}{{- $_ := set $t "key_file" (printf "%s/upstream/tls.key" $tls) -}}{{- end -}}
{{- $_ := set $e "tls" $t -}}
{{- end -}}
{{- $_ := set $config "exporter" $e -}}
{{- else if eq .role "dlq" -}}
{{- $_ := set $config "dlq" (dict "dir" "/data/dlq" "listen" ":4319") -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config (deepCopy $v.config)) -}}
{{- end -}}

{{/* The pod of a role. Takes root, role, ports (list of name and port), ready (path). */}}
{{- define "nrdot.pod" -}}
{{- $v := .root.Values -}}
{{- $secrets := fromYaml (include "nrdot.secrets" .) -}}
{{- $tls := fromYaml (include "nrdot.tls" .) -}}
{{- $scheme := ternary "HTTPS" "HTTP" (ne $v.admin.tls.secretName "") -}}
metadata:
  labels:
    {{- include "nrdot.selector" . | nindent 4 }}
  annotations:
    checksum/config: {{ include "nrdot.config" . | sha256sum }}
    {{- with $v.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "nrdot.fullname" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $v.terminationGracePeriodSeconds }}
  securityContext:
    {{- toYaml $v.podSecurityContext | nindent 4 }}
  {{- with $v.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $v.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "nrdot.selector" . | nindent 10 }}
  containers:
    - name: {{ .role }}
      image: "{{ $v.image.repository }}:{{ $v.image.tag | default .root.Chart.AppVersion }}"
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args: [{{ .role }}, --config, /etc/nrdot/nrdot.yaml]
      env:
        {{- range $name, $key := $secrets }}
        - name: {{ $name }}
          valueFrom:
            secretKeyRef: { name: {{ $v.secret.name }}, key: {{ $key }} }
        {{- end }}
      ports:
        {{- range .ports }}
        - { name: {{ .name }}, containerPort: {{ .port }} }
        {{- end }}
        - { name: admin, containerPort: 8888 }
      startupProbe:
        httpGet: { path: /healthz, port: admin, scheme: {{ $scheme }} }
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: { path: /healthz, port: admin, scheme: {{ $scheme }} }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: {{ .ready }}, port: admin, scheme: {{ $scheme }} }
        periodSeconds: 5
        timeoutSeconds: 3
      lifecycle:
        preStop:
          exec: { command: [sleep, '5'] }
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      resources:
        {{- toYaml (index $v .role).resources | nindent 8 }}
      volumeMounts:
        - { name: config, mountPath: /etc/nrdot, readOnly: true }
        - { name: tmp, mountPath: /tmp }
        {{- if eq .role "dlq" }}
        - { name: data, mountPath: /data }
        {{- end }}
        {{- range $dir, $secret := $tls }}
        - { name: tls-{{ $dir }}, mountPath: /etc/nrdot-tls/{{ $dir }}, readOnly: true }
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "nrdot.fullname" .root }}
        items:
          - { key: {{ .role }}.yaml, path: nrdot.yaml }
    - name: tmp
      emptyDir: { sizeLimit: 64Mi }
    {{- range $dir, $secret := $tls }}
    - name: tls-{{ $dir }}
      secret: { secretName: {{ $secret }}, defaultMode: 0440 }
    {{- end }}
{{- end -}}
