{{- define "token-proxy.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "token-proxy.fullname" -}}
{{- $name := default (ternary .Release.Name (printf "%s-%s" .Release.Name (include "token-proxy.name" .)) (contains (include "token-proxy.name" .) .Release.Name)) .Values.fullnameOverride -}}
{{- $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "token-proxy.selector" -}}
app.kubernetes.io/name: {{ include "token-proxy.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: proxy
{{- end -}}

{{- define "token-proxy.labels" -}}
{{ include "token-proxy.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "token-proxy.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "token-proxy.isShared" -}}
{{- if eq .Values.store.kind "shared" }}yes{{ end -}}
{{- end -}}

{{- define "token-proxy.scheme" -}}
{{- ternary "https" "http" (not (empty .Values.server.tlsSecret)) -}}
{{- end -}}

{{- define "token-proxy.port" -}}
{{- default (ternary 443 80 (not (empty .Values.server.tlsSecret))) .Values.service.port -}}
{{- end -}}

{{/* What a schema can't say in words. */}}
{{- define "token-proxy.check" -}}
{{- if and (gt (int .Values.replicas) 1) (not (include "token-proxy.isShared" .)) -}}
{{- fail "replicas: SQLite is for one replica - expected store.kind: shared, with store.url in the Secret, or replicas: 1" -}}
{{- end -}}
{{- if and (not .Values.server.tlsSecret) (not .Values.server.plaintext) -}}
{{- fail "server: callers' keys would pass the network in clear - expected server.tlsSecret, or server.plaintext: true where the network encrypts by itself" -}}
{{- end -}}
{{- if and .Values.server.tlsSecret .Values.server.plaintext -}}
{{- fail "server: tlsSecret and plaintext contradict each other - expected one of them" -}}
{{- end -}}
{{- if not (contains "[callers." .Values.config) -}}
{{- fail "config: anybody in the cluster could use the tokens - expected a [callers.NAME] with a key, one for each application" -}}
{{- end -}}
{{- end -}}

{{- define "token-proxy.config" -}}
{{- $name := include "token-proxy.fullname" . -}}
{{- $space := .Release.Namespace -}}
{{- $hosts := list $name (printf "%s.%s" $name $space) (printf "%s.%s.svc" $name $space) (printf "%s.%s.svc.cluster.local" $name $space) -}}
[server]
{{- if .Values.server.tlsSecret }}
listen = "0.0.0.0:8443"
tls = { cert = "tls/tls.crt", key = "tls/tls.key" }
{{- else }}
listen = "0.0.0.0:8080"
plaintext = true
{{- end }}
allowed_hosts = {{ concat $hosts .Values.server.allowedHosts | uniq | toJson }}
admin = "127.0.0.1:8081"
public_url = {{ .Values.server.publicUrl | toJson }}
health = "0.0.0.0:9102"
health_accounts = {{ .Values.server.healthAccounts }}

[store]
{{- if include "token-proxy.isShared" . }}
url = { file = "store.url" }
{{- end }}
key = { file = "store.key" }

{{ .Values.config | trim }}
{{ end -}}

{{- define "token-proxy.pod" -}}
metadata:
  labels:
    {{- include "token-proxy.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    checksum/config: {{ include "token-proxy.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "token-proxy.fullname" . }}
  automountServiceAccountToken: false
  # A Service named token-proxy would inject TOKEN_PROXY_PORT and its like.
  enableServiceLinks: false
  # preStop (5 s), requests in flight (limits.shutdown, 25 s), and the store.
  terminationGracePeriodSeconds: 40
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{ include "token-proxy.selector" $ | nindent 10 }}
    {{- end }}
  containers:
    - name: token-proxy
      image: {{ include "token-proxy.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      ports:
        - name: data
          containerPort: {{ ternary 8443 8080 (not (empty .Values.server.tlsSecret)) }}
        - name: token-health
          containerPort: 9102
      # Not /readyz: one credential that waits for a person would take every replica out of the Service.
      startupProbe:
        httpGet: { path: /startupz, port: token-health }
        periodSeconds: 1
        failureThreshold: 60
        timeoutSeconds: 5
      readinessProbe:
        httpGet: { path: /startupz, port: token-health }
        periodSeconds: 5
        timeoutSeconds: 5
      livenessProbe:
        httpGet: { path: /healthz, port: token-health }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      lifecycle:
        preStop:
          # The Service goes on sending for a moment to a Pod that is about to end.
          sleep: { seconds: 5 }
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      resources: {{ toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/token-proxy
          readOnly: true
        - name: state
          mountPath: /var/lib/token-proxy
  volumes:
    - name: config
      projected:
        defaultMode: 0440
        sources:
          - configMap:
              name: {{ include "token-proxy.fullname" . }}
          - secret:
              name: {{ .Values.secret }}
          {{- with .Values.server.tlsSecret }}
          - secret:
              name: {{ . }}
              items:
                - { key: tls.crt, path: tls/tls.crt }
                - { key: tls.key, path: tls/tls.key }
          {{- end }}
    {{- if include "token-proxy.isShared" . }}
    - name: state
      emptyDir:
        sizeLimit: 64Mi
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{ toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
