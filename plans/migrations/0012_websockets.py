from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('plans', '0011_several_upstream_servers'),
    ]

    operations = [
        migrations.AddField(
            model_name='route',
            name='websocket',
            field=models.CharField(blank=True, choices=[('connection', 'Each connection, when the API accepts it'), ('messages', 'Each message, from the client and to it'), ('client_messages', 'Each message from the client')], db_default='', default='', help_text='The route takes WebSockets and nothing else; its units are counted for this. Empty: plain calls.', max_length=15, verbose_name='WebSocket'),
        ),
    ]
