FROM busybox
RUN <<EOF
echo a
# kept
EOF
COPY <<-"A" <<B one /dir/
	raw $X
	A
cooked $X
B
RUN cat <<'E1' > /f && echo x
text
E1
RUN ["echo", "<<EOF"]
ONBUILD COPY <<C /c
later
C
ENV X="<<EOF"
