{{- /* An image's full name: the site's registry where one is given, else the image's own. */ -}}
{{- define "web.image" -}}
{{- $registry := (.Values.global).imageRegistry | default .Values.image.registry -}}
{{- printf "%s/%s:%s" $registry .Values.image.repository .Values.image.tag -}}
{{- end -}}
