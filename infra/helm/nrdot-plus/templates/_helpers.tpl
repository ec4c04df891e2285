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

{{/* Labels of the pods that are none of the product's services, so that no selector of those means them. */}}
{{- define "nrdot.helper" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}-{{ .role }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "nrdot.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "nrdot.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}{{ .Values.serviceAccount.name | default (include "nrdot.fullname" .) }}
{{- else -}}{{ .Values.serviceAccount.name | default "default" }}{{- end -}}
{{- end -}}

{{- define "nrdot.onOpenShift" -}}
{{- if .Capabilities.APIVersions.Has "security.openshift.io/v1" }}yes{{ end -}}
{{- end -}}

{{/* The security context of a pod. Takes root, volume (whether it has a claim) and user (a number, or nothing: the image's). */}}
{{- define "nrdot.podSecurity" -}}
{{- $v := .root.Values -}}
{{- $openShift := include "nrdot.onOpenShift" .root -}}
{{- $context := dict -}}
{{- if and .user (not $openShift) -}}{{- $context = dict "runAsUser" (int64 .user) "runAsGroup" (int64 .user) -}}{{- end -}}
{{- if .volume -}}
{{- if ne (toString $v.fsGroup) "auto" -}}
{{- if ne (toString $v.fsGroup) "none" -}}{{- $_ := set $context "fsGroup" (int64 $v.fsGroup) -}}{{- end -}}
{{- else if not $openShift -}}{{- $_ := set $context "fsGroup" (int64 (.user | default 1000)) -}}{{- end -}}
{{- end -}}
{{- toYaml (mergeOverwrite $context (deepCopy $v.podSecurityContext)) -}}
{{- end -}}

{{- define "nrdot.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* The Secret with the certificate of an address: its own, or cert-manager's; nothing: HTTP. Takes root and for. */}}
{{- define "nrdot.certificate" -}}
{{- $v := .root.Values -}}
{{- $own := (index $v .for).tls.secretName -}}
{{- if $own -}}{{ $own }}
{{- else if and $v.certificates.enabled (has .for $v.certificates.for) -}}{{ include "nrdot.fullname" .root }}-{{ .for }}-tls{{- end -}}
{{- end -}}

{{- define "nrdot.redisUrl" -}}
{{- $v := .Values -}}
{{- if $v.redis.url -}}{{ $v.redis.url }}
{{- else if $v.redis.deploy.enabled -}}redis://{{ include "nrdot.fullname" . }}-redis:6379{{- end -}}
{{- end -}}

{{/* The secrets of a role: name of the environment variable, and key in the Secret. */}}
{{- define "nrdot.secrets" -}}
{{- $v := .root.Values -}}
{{- $all := dict "NRDOT_ADMIN_TOKEN" (required "secret.keys.adminToken: expected the key with the admin token" $v.secret.keys.adminToken) -}}
{{- if not (include "nrdot.redisUrl" .root) -}}{{- $_ := set $all "NRDOT_REDIS_URL" (required "redis.url or secret.keys.redisUrl: expected one" $v.secret.keys.redisUrl) -}}{{- end -}}
{{- if and (eq .role "exporter") $v.secret.keys.upstreamKey -}}{{- $_ := set $all "NRDOT_UPSTREAM_KEY" $v.secret.keys.upstreamKey -}}{{- end -}}
{{- if and (or (eq .role "receiver") $v.telemetry.enabled) $v.secret.keys.ingestToken -}}{{- $_ := set $all "NRDOT_INGEST_TOKEN" $v.secret.keys.ingestToken -}}{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* Says something when others that speak to the receivers have to be told who signed their certificate: cert-manager did. */}}
{{- define "nrdot.receiverAuthority" -}}
{{- $v := .root.Values -}}
{{- if and $v.telemetry.enabled (not $v.receiver.tls.secretName) (include "nrdot.certificate" (dict "root" .root "for" "receiver")) -}}yes{{- end -}}
{{- end -}}

{{/* The section telemetry of a role's nrdot.yaml. */}}
{{- define "nrdot.telemetry" -}}
{{- $v := .root.Values -}}
{{- if $v.receiver.tls.clientCertificate -}}{{- fail "telemetry.enabled: expected receiver.tls.clientCertificate to be off: the pods have no certificate to present" -}}{{- end -}}
{{- $name := include "nrdot.fullname" .root -}}
{{- $to := dict "endpoint" "pipeline" -}}
{{- if ne .role "receiver" -}}
{{- $scheme := ternary "https" "http" (ne (include "nrdot.certificate" (dict "root" .root "for" "receiver")) "") -}}
{{- $prefix := dig "receiver" "path_prefix" "" $v.config | trimAll "/" -}}
{{- $_ := set $to "endpoint" (printf "%s://%s:%v%s" $scheme $name $v.receiver.service.port (ternary "" (printf "/%s" $prefix) (eq $prefix ""))) -}}
{{- if $v.secret.keys.ingestToken -}}{{- $_ := set $to "headers" (dict "authorization" "Bearer ${env:NRDOT_INGEST_TOKEN}") -}}{{- end -}}
{{- if include "nrdot.receiverAuthority" . -}}{{- $_ := set $to "tls" (dict "ca_file" "/etc/nrdot-tls/receiver/ca.crt") -}}{{- end -}}
{{- end -}}
{{- $_ := set $to "temporality" ($v.telemetry.temporality | default (ternary "delta" "cumulative" (contains "nr-data.net" $v.upstream.endpoint))) -}}
{{- $_ := set $to "attributes" (dict "service.namespace" $name "k8s.namespace.name" .root.Release.Namespace) -}}
{{- toYaml (dict "otlp" $to) -}}
{{- end -}}

{{/* The TLS Secrets of a role: directory below /etc/nrdot-tls, and the Secret with the files of it that the role has to know; no files: all. */}}
{{- define "nrdot.tls" -}}
{{- $v := .root.Values -}}
{{- $all := dict -}}
{{- with include "nrdot.certificate" (dict "root" .root "for" "admin") -}}{{- $_ := set $all "admin" (dict "secret" .) -}}{{- end -}}
{{- if $v.redis.tls.secretName -}}{{- $_ := set $all "redis" (dict "secret" $v.redis.tls.secretName) -}}{{- end -}}
{{- if and (eq .role "exporter") $v.upstream.tls.secretName -}}{{- $_ := set $all "upstream" (dict "secret" $v.upstream.tls.secretName) -}}{{- end -}}
{{- $receiver := include "nrdot.certificate" (dict "root" .root "for" "receiver") -}}
{{- if and (eq .role "receiver") $receiver -}}{{- $_ := set $all "receiver" (dict "secret" $receiver) -}}{{- end -}}
{{- if and (ne .role "receiver") (include "nrdot.receiverAuthority" .) -}}{{- $_ := set $all "receiver" (dict "secret" $receiver "files" (list "ca.crt")) -}}{{- end -}}
{{- $dlq := include "nrdot.certificate" (dict "root" .root "for" "dlq") -}}
{{- if and (eq .role "dlq") $dlq -}}{{- $_ := set $all "dlq" (dict "secret" $dlq) -}}{{- end -}}
{{- if and (eq .role "receiver") $dlq -}}
{{- $_ := set $all "dlq" (dict "secret" $dlq "files" (list "ca.crt")) -}}
{{- with $v.dlq.tls.clientSecretName -}}{{- $_ := set $all "dlq-client" (dict "secret" . "files" (list "tls.crt" "tls.key")) -}}{{- end -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* nrdot.yaml of a role: each holds only what that role has to know. */}}
{{- define "nrdot.config" -}}
{{- $v := .root.Values -}}
{{- $tls := "/etc/nrdot-tls" -}}
{{- $admin := dict "listen" ":8888" "token" "${env:NRDOT_ADMIN_TOKEN}" -}}
{{- if include "nrdot.certificate" (dict "root" .root "for" "admin") -}}
{{- $_ := set $admin "tls" (dict "cert_file" (printf "%s/admin/tls.crt" $tls) "key_file" (printf "%s/admin/tls.key" $tls)) -}}
{{- end -}}
{{- $redis := dict "url" (include "nrdot.redisUrl" .root | default "${env:NRDOT_REDIS_URL}") -}}
{{- if or $v.redis.tls.enabled $v.redis.tls.secretName -}}
{{- $t := dict "enabled" true -}}
{{- if $v.redis.tls.secretName -}}{{- $_ := set $t "ca_file" (printf "%s/redis/ca.crt" $tls) -}}{{- end -}}
{{- if $v.redis.tls.clientCertificate -}}{{- $_ := set $t "cert_file" (printf "%s/redis/tls.crt" $tls) -}}{{- $_ := set $t "key_file" (printf "%s/redis/tls.key" $tls) -}}{{- end -}}
{{- $_ := set $redis "tls" $t -}}
{{- end -}}
{{- $config := dict "admin" $admin "redis" $redis "log" (dict "format" "json") -}}
{{- if $v.telemetry.enabled -}}{{- $_ := set $config "telemetry" (include "nrdot.telemetry" . | fromYaml) -}}{{- end -}}
{{- $dlqTls := include "nrdot.certificate" (dict "root" .root "for" "dlq") -}}
{{- if eq .role "receiver" -}}
{{- $r := dict "listen" ":4318" -}}
{{- if $v.secret.keys.ingestToken -}}{{- $_ := set $r "tokens" (list "${env:NRDOT_INGEST_TOKEN}") -}}{{- end -}}
{{- if include "nrdot.certificate" (dict "root" .root "for" "receiver") -}}
{{- $t := dict "cert_file" (printf "%s/receiver/tls.crt" $tls) "key_file" (printf "%s/receiver/tls.key" $tls) -}}
{{- if $v.receiver.tls.clientCertificate -}}{{- $_ := set $t "client_ca_file" (printf "%s/receiver/ca.crt" $tls) -}}{{- end -}}
{{- $_ := set $r "tls" $t -}}
{{- end -}}
{{- $_ := set $config "receiver" $r -}}
{{- $d := dict "url" (printf "%s://%s-dlq:4319" (ternary "https" "http" (ne $dlqTls "")) (include "nrdot.fullname" .root)) -}}
{{- if $dlqTls -}}
{{- $_ := set $d "ca_file" (printf "%s/dlq/ca.crt" $tls) -}}
{{- if $v.dlq.tls.clientSecretName -}}{{- $_ := set $d "cert_file" (printf "%s/dlq-client/tls.crt" $tls) -}}{{- $_ := set $d "key_file" (printf "%s/dlq-client/tls.key" $tls) -}}{{- end -}}
{{- end -}}
{{- $_ := set $config "dlq" $d -}}
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
{{- $d := dict "dir" "/data/dlq" "listen" ":4319" -}}
{{- if $dlqTls -}}
{{- $t := dict "cert_file" (printf "%s/dlq/tls.crt" $tls) "key_file" (printf "%s/dlq/tls.key" $tls) -}}
{{- if $v.dlq.tls.clientSecretName -}}{{- $_ := set $t "client_ca_file" (printf "%s/dlq/ca.crt" $tls) -}}{{- end -}}
{{- $_ := set $d "tls" $t -}}
{{- end -}}
{{- $_ := set $config "dlq" $d -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config (deepCopy $v.config)) -}}
{{- end -}}

{{/* The name of a role's ConfigMap has the hash of its text: pods of the release before keep theirs, whatever comes after it. */}}
{{- define "nrdot.configName" -}}
{{ include "nrdot.fullname" .root }}-{{ .role }}-{{ include "nrdot.config" . | sha256sum | trunc 10 }}
{{- end -}}

{{/* What a role's container reads: variables. */}}
{{- define "nrdot.env" -}}
{{- $v := .root.Values -}}
{{- range $name, $key := fromYaml (include "nrdot.secrets" .) }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: { name: {{ $v.secret.name }}, key: {{ $key }} }
{{- end }}
{{- with $v.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* ... and the Secrets of certificates, as volumes. A renewed one appears in them, and is read, without a restart. Takes root, role and, where
pods of several roles are one, a prefix. */}}
{{- define "nrdot.tlsVolumes" -}}
{{- $prefix := .prefix | default "tls-" -}}
{{- range $dir, $from := fromYaml (include "nrdot.tls" .) }}
- name: {{ $prefix }}{{ $dir }}
  secret:
    secretName: {{ $from.secret }}
    {{- with $from.files }}
    items:
      {{- range . }}
      - { key: {{ . }}, path: {{ . }} }
      {{- end }}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "nrdot.tlsMounts" -}}
{{- $prefix := .prefix | default "tls-" -}}
{{- range $dir, $from := fromYaml (include "nrdot.tls" .) }}
- { name: {{ $prefix }}{{ $dir }}, mountPath: /etc/nrdot-tls/{{ $dir }}, readOnly: true }
{{- end }}
{{- with .root.Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where pods of all kinds may run, and what they are pulled with. */}}
{{- define "nrdot.placing" -}}
{{- $v := .Values -}}
{{- with $v.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $v.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A probe's question. A kubelet has no certificate to show, so where clients have to show one it only connects. */}}
{{- define "nrdot.ask" -}}
{{- $tls := dig "admin" "tls" dict (fromYaml (include "nrdot.config" .)) -}}
{{- if $tls.client_ca_file -}}
tcpSocket: { port: admin }
{{- else -}}
httpGet: { path: {{ .path }}, port: admin, scheme: {{ ternary "HTTPS" "HTTP" (ne (default "" $tls.cert_file) "") }} }
{{- end -}}
{{- end -}}

{{/* The pod of a role. Takes root, role, ports (list of name and port), ready (path). */}}
{{- define "nrdot.pod" -}}
{{- $v := .root.Values -}}
{{- $alive := include "nrdot.ask" (dict "root" .root "role" .role "path" "/healthz") -}}
metadata:
  labels:
    {{- include "nrdot.selector" . | nindent 4 }}
    {{- with $v.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $v.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "nrdot.serviceAccount" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $v.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "nrdot.podSecurity" (dict "root" .root "volume" (eq .role "dlq")) | nindent 4 }}
  {{- include "nrdot.placing" .root | nindent 2 }}
  topologySpreadConstraints:
    {{- $spread := list (dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway") }}
    {{- range $v.topologySpreadConstraints | default $spread }}
    - {{- toYaml (omit . "labelSelector") | nindent 6 }}
      labelSelector:
        {{- if .labelSelector }}
        {{- toYaml .labelSelector | nindent 8 }}
        {{- else }}
        matchLabels:
          {{- include "nrdot.selector" $ | nindent 10 }}
        {{- end }}
    {{- end }}
  containers:
    - name: {{ .role }}
      image: {{ include "nrdot.image" .root | quote }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args: [{{ .role }}, --config, /etc/nrdot/nrdot.yaml]
      env:
        {{- include "nrdot.env" . | nindent 8 }}
      ports:
        {{- range .ports }}
        - { name: {{ .name }}, containerPort: {{ .port }} }
        {{- end }}
        - { name: admin, containerPort: 8888 }
      startupProbe:
        {{ $alive }}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        {{ $alive }}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        {{ include "nrdot.ask" (dict "root" .root "role" .role "path" .ready) }}
        periodSeconds: 5
        timeoutSeconds: 3
      {{- if $v.preStopSeconds }}
      lifecycle:
        preStop:
          exec: { command: [sleep, {{ $v.preStopSeconds | quote }}] }
      {{- end }}
      securityContext:
        {{- include "nrdot.containerSecurity" . | nindent 8 }}
      resources:
        {{- toYaml (index $v .role).resources | nindent 8 }}
      volumeMounts:
        - { name: config, mountPath: /etc/nrdot, readOnly: true }
        - { name: tmp, mountPath: /tmp }
        {{- if eq .role "dlq" }}
        - { name: data, mountPath: /data }
        {{- end }}
        {{- include "nrdot.tlsMounts" . | nindent 8 }}
  volumes:
    - name: config
      configMap:
        name: {{ include "nrdot.configName" . }}
        items:
          - { key: {{ .role }}.yaml, path: nrdot.yaml }
    - name: tmp
      emptyDir: { sizeLimit: 64Mi }
    {{- include "nrdot.tlsVolumes" . | nindent 4 }}
    {{- with $v.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
